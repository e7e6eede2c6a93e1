"""Kernels to WGSL, within a device profile.

PARALLEL loops become one flat number of invocations; WORKGROUP and INVOCATION loops map as they say. Binding i of
group 0 is buffer argument i; parameters are one uniform buffer at the binding after the last (docs/bundle-format.md).
Tables state what is native and what is emulated: `operators`, `conversions`, `storage`.

What cannot run it says (`objection`): 64-bit floats, vectors of 64-bit integers, parallel extents that are read from
memory, and more buffers than a device is certain to bind. float16 is stored packed and computed as float32; a profile
with the feature "shader-f16" is where native 16-bit floats will come in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from webdnn_backends.emit import Emitted, LaunchShape
from webdnn_backends.ir.decompose import DEFINED, Definition, define
from webdnn_backends.ir.loops import Const, Kernel, Local, Loop
from webdnn_backends.ir.narrow_floats import NARROW_FLOATS, pack, unpack
from webdnn_backends.ir.scalars import Scalar, compute_type
from webdnn_backends.ir.statements import declared, distinct_arrays, expressions, walk
from webdnn_backends.ir.verify import verify
from webdnn_backends.webgpu.conversions import WIDE, type_name
from webdnn_backends.webgpu.helpers import helper_texts
from webdnn_backends.webgpu.mapping import Mapping, flat_words, map_kernel
from webdnn_backends.webgpu.printer import Printer
from webdnn_backends.webgpu.profile import DEFAULT, DeviceProfile
from webdnn_backends.webgpu.storage import Binding, Form, bindings
from webdnn_backends.webgpu.words import RESERVED
from webdnn_onnx.errors import DTypeError
from webdnn_onnx.symbolic import Dim

__all__ = ["WgslKernel", "emit", "emit_program", "objection"]


@dataclass(frozen=True)
class WgslKernel:
    """text: one shader module. bindings: "read" or "read_write" for each buffer argument. workgroup: invocations in
    each dimension. grid: workgroups, over the kernel's parameters. parameters: whether the uniform buffer exists."""

    name: str
    text: str
    entry: str
    bindings: tuple[str, ...]
    workgroup: tuple[int, int, int]
    grid: tuple[Dim, Dim, Dim]
    parameters: bool


def objection(kernel: Kernel) -> str | None:
    """Why the kernel cannot run on every WebGPU device, or None. Such a kernel runs as JavaScript on the host."""
    most = DEFAULT.max_storage_buffers_per_shader_stage
    if len(kernel.buffers) > most:
        return f"binds {len(kernel.buffers)} storage buffers, where {most} are certain"
    for buffer in kernel.buffers:
        if compute_type(buffer.dtype) is Scalar.F64:
            return f"buffer '{buffer.name}' holds float64, which WGSL has not"
    for item in walk(kernel.body):
        types = [(part.type, part.lanes) for part in expressions(item)]
        if isinstance(item, Local):
            types.append((item.type, item.lanes))
        for type, lanes in types:
            if type is Scalar.F64:
                return "computes in float64, which WGSL has not"
            if type in WIDE and lanes > 1:
                return "computes with vectors of 64-bit integers, which WGSL has not"
    try:
        mapping = map_kernel(kernel, DEFAULT, frozenset())
    except ValueError:
        return None
    return mapping if isinstance(mapping, str) else None


def emit(kernel: Kernel, profile: DeviceProfile = DEFAULT) -> WgslKernel:
    """The kernel as a shader module of its own.

    Raises DTypeError for what WGSL cannot express (see `objection`), LimitError beyond the profile's limits, ValueError
    for what is no loop IR.
    """
    verify(kernel)
    where = f"kernel {kernel.name}"
    limit = profile.max_storage_buffers_per_shader_stage
    profile.check(where, "storage buffers", len(kernel.buffers), limit)
    reason = objection(kernel)
    if reason is not None:
        raise DTypeError(f"kernel {kernel.name}: expected what WGSL can express, but it {reason}; run it on the host")
    kernel = replace(kernel, body=distinct_arrays(kernel.body))
    words = flat_words(kernel)
    mapping = map_kernel(kernel, profile, words)
    assert not isinstance(mapping, str), "an objection says so before"
    forms = bindings(kernel, words)
    printer = Printer(_names(kernel), forms, kernel.body)
    main = _main(kernel, mapping, forms, printer)
    limit = profile.max_compute_workgroup_storage_size
    profile.check(where, "bytes of workgroup memory", printer.workgroup_bytes, limit)
    parts = ["\n".join(_declarations(kernel, forms, printer)), *printer.shared, *_functions(printer.helpers), main]
    access = tuple("read_write" if forms[buffer.name].writable else "read" for buffer in kernel.buffers)
    text = "\n\n".join(parts) + "\n"
    return WgslKernel(kernel.name, text, "main", access, mapping.workgroup, mapping.grid, bool(kernel.parameters))


def emit_program(kernels: Sequence[Kernel], profile: DeviceProfile = DEFAULT) -> Emitted:
    """`kernels.wgsl`, one section per kernel, and the manifest's records."""
    shaders = [emit(kernel, profile) for kernel in kernels]
    text = "".join(f"//# kernel {shader.name}\n{shader.text}" for shader in shaders)
    records = tuple(
        {
            "name": shader.name,
            "entry": shader.entry,
            "bindings": list(shader.bindings),
            "workgroup": list(shader.workgroup),
        }
        for shader in shaders
    )
    shapes = tuple(LaunchShape(grid=shader.grid) for shader in shaders)
    requires = {"features": sorted(profile.features), "profile": profile.name}
    return Emitted({"kernels.wgsl": text.encode()}, records, shapes, tuple(shader.text for shader in shaders), requires)


def _declarations(kernel: Kernel, forms: dict[str, Binding], printer: Printer) -> list[str]:
    lines = []
    for number, buffer in enumerate(kernel.buffers):
        form = forms[buffer.name]
        mode = "storage, read_write" if form.writable else "storage, read"
        name = printer.names[buffer.name]
        lines.append(f"@group(0) @binding({number}) var<{mode}> {name}: array<{form.element}>; // {buffer.dtype.value}")
    if kernel.parameters:
        vectors = (len(kernel.parameters) + 3) // 4
        number = len(kernel.buffers)
        lines.append(f"@group(0) @binding({number}) var<uniform> parameters: array<vec4<i32>, {vectors}>;")
    return lines


def _main(kernel: Kernel, mapping: Mapping, forms: dict[str, Binding], printer: Printer) -> str:
    lines = [
        f"  let {printer.names[name]} = parameters[{at // 4}].{'xyzw'[at % 4]};"
        for at, name in enumerate(kernel.parameters)
    ]
    if mapping.parallel:
        lines += _flat(mapping, forms, printer)
    else:
        printer.folded = mapping.folded
        body = list(printer.block(mapping.body, "  "))
        lines += ["  " + line for line in printer.private] + body
    text = "\n".join(lines)
    arguments = [
        f"@builtin({builtin}) {name}: vec3<u32>"
        for builtin, name in (
            ("workgroup_id", "group"),
            ("num_workgroups", "groups"),
            ("local_invocation_id", "local"),
        )
        if re.search(rf"\b{name}\.", text)
    ]
    size = ", ".join(str(extent) for extent in mapping.workgroup)
    return f"@compute @workgroup_size({size})\nfn main({', '.join(arguments)}) {{\n{text}\n}}"


def _flat(mapping: Mapping, forms: dict[str, Binding], printer: Printer) -> list[str]:
    """One number per invocation, split into the variables of the nest."""
    loops, size = mapping.parallel, mapping.workgroup[0]
    group = "(group.y * groups.x + group.x)" if mapping.folded else "group.x"
    extents = [_unsigned(loop, printer) for loop in loops]
    count = 1
    for loop in loops:
        count = count * int(loop.extent.value) if isinstance(loop.extent, Const) else 0
    product = f"{count}u" if count else " * ".join(extents)
    lines = [f"  let index = {group} * {size}u + local.x;" if size > 1 else f"  let index = {group};"]
    if mapping.step == 1:
        if not count or mapping.folded or count % size:
            lines.append(f"  if (index >= {product}) {{ return; }}")
        inner, number = "  ", "index"
    else:
        lines += [f"  let total = {product};", f"  let first = index * {mapping.step}u;"]
        lines += [f"  var {printer.names[name]}_word_ = 0u;" for name, form in forms.items() if form.form is Form.WORDS]
        lines.append(f"  for (var element = first; element < min(first + {mapping.step}u, total); element++) {{")
        lines.append("    let last = element + 1u == total;")
        inner, number = "    ", "element"
    body = _split(loops, extents, number, inner, printer)
    body += list(printer.block(mapping.body, inner))
    return [*lines, *("  " + line for line in printer.private), *body, *(["  }"] if mapping.step > 1 else [])]


def _unsigned(loop: Loop, printer: Printer) -> str:
    if isinstance(loop.extent, Const):
        return f"{loop.extent.value}u"
    return f"u32({printer.value(loop.extent).text})"


def _split(loops: tuple[Loop, ...], extents: list[str], number: str, indent: str, printer: Printer) -> list[str]:
    lines = []
    for depth in range(len(loops) - 1, -1, -1):
        loop, rest = loops[depth], number
        if depth:
            rest = f"({number} % {extents[depth]})"
            following = f"rest{depth}_"
            lines.append(f"{indent}let {following} = {number} / {extents[depth]};")
            number = following
        value = f"i32{rest}" if rest.startswith("(") else f"i32({rest})"
        if loop.step != 1:
            value = f"{value} * {loop.step}"
        if loop.start != Const(0):
            value = f"{value} + ({printer.value(loop.start).text})"
        lines.append(f"{indent}let {printer.names[loop.var]} = {value};")
        if printer.is_not_negative(loop.start):
            printer.not_negative.add(loop.var)
    return lines


def _names(kernel: Kernel) -> dict[str, str]:
    """A distinct identifier for every name in the kernel; siblings of the same name share theirs."""
    names: dict[str, str] = {}
    for name in (*(buffer.name for buffer in kernel.buffers), *kernel.parameters, *declared(kernel.body)):
        if name not in names:
            text = _identifier(name)
            while text in names.values():
                text += "_"
            names[name] = text
    return names


def _identifier(name: str) -> str:
    text = re.sub(r"[^A-Za-z0-9_]", "_", name)
    if not text or not text[0].isalpha():
        text = f"v{text}"
    return f"{text}_v" if text in RESERVED or text.endswith("_") or _is_function(text) else text


def _definition(name: str) -> Definition | None:
    """The definition behind a helper's name: exp_f32, exp_f32x4, pack_float16, unpack_float16x4."""
    base, lanes = (name.removesuffix("x4"), 4) if name.endswith("x4") else (name, 1)
    for op in DEFINED:
        if base == f"{op.value}_f32":
            return define(op, Scalar.F32, lanes)
    for dtype in NARROW_FLOATS:
        if base == f"pack_{dtype.value}":
            return pack(dtype, lanes)
        if base == f"unpack_{dtype.value}":
            return unpack(dtype, lanes)
    return None


def _is_function(name: str) -> bool:
    return bool(helper_texts([name])) or _definition(name) is not None


def _functions(names: set[str]) -> list[str]:
    """The texts of all functions that these call, directly or not, by name."""
    texts: dict[str, str] = {}
    helpers: set[str] = set()
    pending = sorted(names)
    while pending:
        name = pending.pop(0)
        definition = _definition(name)
        if definition is None:
            helpers.add(name)
        elif name not in texts:
            texts[name], called = _print_definition(definition)
            pending += sorted(called)
    return helper_texts(helpers) + [texts[name] for name in sorted(texts)]


def _print_definition(definition: Definition) -> tuple[str, set[str]]:
    locals_ = [parameter.name for parameter in definition.parameters] + list(declared(definition.body))
    printer = Printer({name: _identifier(name) for name in locals_}, {}, definition.body)
    lines = list(printer.block(definition.body, "  "))
    result = printer.value(definition.result)
    lines += ["  " + line for line in printer.pending]
    parameters = ", ".join(
        f"{printer.names[parameter.name]}: {type_name(parameter.type, parameter.lanes)}"
        for parameter in definition.parameters
    )
    kind = type_name(definition.result.type, definition.result.lanes)
    head = f"fn {definition.name}({parameters}) -> {kind} {{"
    return "\n".join([head, *lines, f"  return {result.text};", "}"]), printer.helpers
