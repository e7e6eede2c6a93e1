"""The WebAssembly dialect: loop-IR kernels to functions of one module.

An exported function takes one i32 byte address per buffer, one i32 per parameter and, if the kernel is parallel, the
range `begin, end` of its flattened outermost parallel loops. Local arrays lie at the address that the exported global
`scratch` holds: each thread's instance has its own. See docs/bundle-format.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from webdnn_backends.ir.decompose import Definition
from webdnn_backends.ir.loops import (
    Apply,
    Assign,
    Barrier,
    Bitcast,
    Cast,
    Const,
    Expr,
    If,
    Kernel,
    Lane,
    Load,
    Local,
    Loop,
    LoopKind,
    Select,
    Splat,
    Stmt,
    Store,
    Var,
    Vector,
)
from webdnn_backends.ir.narrow_floats import NARROW_FLOATS
from webdnn_backends.ir.scalars import Op, Scalar, compute_type, storage_type
from webdnn_backends.wasm.builder import Builder
from webdnn_backends.wasm.emit import Emitter, Induction, Region
from webdnn_backends.wasm.encode import Function, FunctionType, Global, Module, encode_module
from webdnn_backends.wasm.opcodes import Instruction
from webdnn_backends.wasm.peephole import tidy
from webdnn_backends.wasm.rows import SCALAR_STORES, value_type
from webdnn_backends.wasm.values import INT_MAX, Range, Value
from webdnn_onnx.dtypes import DType

__all__ = [
    "CompiledKernel",
    "build_module",
    "compile_kernel",
    "emit_module",
    "is_parallel",
    "parameter_names",
    "scratch_bytes",
]


@dataclass(frozen=True)
class CompiledKernel:
    """One kernel as a function. helpers: definitions that it calls. scratch: bytes of its local arrays."""

    function: Function
    helpers: tuple[Definition, ...]
    scratch: int


def is_parallel(kernel: Kernel) -> bool:
    """Whether the exported function takes `begin, end`. Kernels that store elements smaller than a byte do not: two
    threads could meet in one byte."""
    first = kernel.body[0] if len(kernel.body) == 1 else None
    if not isinstance(first, Loop) or first.kind is not LoopKind.PARALLEL:
        return False
    stored = _changed(kernel.body)[1]
    return all(buffer.dtype.bits >= 8 for buffer in kernel.buffers if buffer.name in stored)


def parameter_names(kernel: Kernel) -> tuple[str, ...]:
    """What the exported function's arguments are, in order."""
    names = (*(buffer.name for buffer in kernel.buffers), *kernel.parameters)
    return (*names, "begin", "end") if is_parallel(kernel) else names


def scratch_bytes(kernels: Iterable[Kernel]) -> int:
    """Bytes that each thread needs at the address in its `scratch` global."""
    return max((_array_bytes(kernel.body) for kernel in kernels), default=0)


def emit_module(kernels: Sequence[Kernel], *, relaxed: bool = False, threads: bool = False) -> bytes:
    """The bytes of a module with every kernel, exported under its name; equal kernels give equal bytes."""
    return encode_module(build_module(kernels, relaxed=relaxed, threads=threads))


def build_module(kernels: Sequence[Kernel], *, relaxed: bool = False, threads: bool = False) -> Module:
    """The module before it is encoded."""
    chosen = [
        kernel if relaxed or kernel.plain is None else replace(kernel.plain, name=kernel.name) for kernel in kernels
    ]
    compiled = [compile_kernel(kernel, relaxed=relaxed) for kernel in chosen]
    helpers: dict[str, Function] = {}
    waiting = [definition for item in compiled for definition in item.helpers]
    while waiting:
        definition = waiting.pop(0)
        if definition.name not in helpers:
            helper = _compile_definition(definition, relaxed)
            helpers[definition.name] = helper.function
            waiting += helper.helpers
    functions = [item.function for item in compiled] + list(helpers.values())
    index = {function.name: i for i, function in enumerate(functions) if not function.exported}
    linked = tuple(_link(function, index) for function in functions)
    return Module(linked, globals=(Global("scratch"),), shared_memory=threads)


def _variant(kernel: Kernel, relaxed: bool) -> Kernel:
    return kernel if relaxed or kernel.plain is None else replace(kernel.plain, name=kernel.name)


def _link(function: Function, index: dict[str, int]) -> Function:
    body = tuple(("call", index[str(item[1])]) if item[0] == "call" else item for item in function.body)
    return Function(function.name, function.type, function.locals, body, function.exported)


def compile_kernel(kernel: Kernel, *, relaxed: bool = False) -> CompiledKernel:
    """One kernel as a function whose calls still name their targets."""
    parallel = is_parallel(kernel)
    count = len(kernel.buffers) + len(kernel.parameters) + 2 * parallel
    writer = _Writer(relaxed, count, _changed(kernel.body)[0])
    for i, buffer in enumerate(kernel.buffers):
        base = writer.builder.local(i, Scalar.I32, 1, 0, 0)
        writer.emitter.bases.add(base)
        writer.memories[buffer.name] = _Memory(base, buffer.dtype)
    for i, name in enumerate(kernel.parameters):
        writer.names[name] = writer.builder.local(len(kernel.buffers) + i, Scalar.I32, 1, 0, 0)
    if _array_bytes(kernel.body):
        writer.open_scratch()
    if parallel:
        loop = kernel.body[0]
        assert isinstance(loop, Loop), "a parallel kernel is a nest of loops"
        writer.parallel(loop, count - 2, count - 1)
    else:
        writer.block(kernel.body)
    return writer.finish(kernel.name, ("i32",) * count, None)


def _compile_definition(definition: Definition, relaxed: bool) -> CompiledKernel:
    writer = _Writer(relaxed, len(definition.parameters), _changed(definition.body)[0])
    for i, parameter in enumerate(definition.parameters):
        writer.names[parameter.name] = writer.builder.local(i, parameter.type, parameter.lanes, 0, 0)
    for statement in definition.body:
        writer.statement(statement)
    types = tuple(value_type(parameter.type, parameter.lanes) for parameter in definition.parameters)
    return writer.finish(definition.name, types, definition.result)


@dataclass
class _Register:
    """A loop-IR register that is assigned: its wasm locals (four for 64-bit lanes) and where it was last assigned."""

    locals: tuple[int, ...]
    type: Scalar
    lanes: int
    level: int


@dataclass
class _Memory:
    """A buffer or local array. dtype: of its elements. version, level: of the last store to it."""

    base: Value
    dtype: DType
    offset: int = 0
    version: int = 0
    level: int = 0


@dataclass
class _Writer:
    """Writes the statements of one function. assigned: names of the registers that are ever assigned."""

    relaxed: bool
    parameters: int
    assigned: frozenset[str]
    names: dict[str, Value | _Register] = field(default_factory=dict)
    memories: dict[str, _Memory] = field(default_factory=dict)
    scratch: int = 0
    scratch_base: Value | None = None
    memo: dict[int, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.builder = Builder(self.relaxed)
        self.emitter = Emitter(self.builder, self.parameters)

    @property
    def depth(self) -> int:
        return self.emitter.regions[-1].depth

    def open_scratch(self) -> None:
        """Fetch the address of this thread's scratch memory."""
        index = self.emitter.new_local("i32")
        self.emitter.code(("global.get", 0), ("local.set", index))
        self.scratch_base = self.builder.local(index, Scalar.I32, 1, 0, 0)
        self.emitter.bases.add(self.scratch_base)

    def finish(self, name: str, parameters: tuple[str, ...], result: Expr | None) -> CompiledKernel:
        """The function, after its statements."""
        results: tuple[str, ...] = ()
        if result is not None:
            self.memo.clear()
            self.emitter.emit(self.value(result))
            results = (value_type(result.type, result.lanes),)
        body, locals = tidy(self.emitter.regions[0].code, self.emitter.locals, self.parameters)
        function = Function(name, FunctionType(parameters, results), tuple(locals), tuple(body), result is None)
        return CompiledKernel(function, tuple(self.builder.helpers.values()), self.scratch)

    # expressions

    def value(self, expr: Expr) -> Value:
        """The value of an expression at this place."""
        found = self.memo.get(id(expr))
        if found is None:
            found = self.memo[id(expr)] = self._value(expr)
        return found

    def _value(self, expr: Expr) -> Value:
        builder = self.builder
        match expr:
            case Var(name=name):
                return self._variable(name)
            case Const(value=literal, type=type):
                return builder.const(literal, type)
            case Load(buffer=buffer, index=index, lanes=lanes):
                return self._load(self.memories[buffer], buffer, self.value(index), lanes)
            case Apply(op=op, args=args):
                return builder.op(op, *[self.value(arg) for arg in args])
            case Cast(to=to, arg=arg):
                return builder.cast(to, self.value(arg))
            case Bitcast(type=type, arg=arg):
                return builder.bitcast(type, self.value(arg))
            case Select(condition=condition, true=true, false=false):
                chosen = self.value(condition)
                if chosen.is_const:
                    return self.value(true if chosen.constant else false)
                return builder.select(chosen, self.value(true), self.value(false))
            case Splat(arg=arg, lanes=lanes):
                return builder.splat(self.value(arg), lanes)
            case Lane(arg=arg, lane=lane):
                return builder.lane(self.value(arg), lane)
            case Vector(args=args):
                return builder.vector(tuple(self.value(arg) for arg in args))
            case _:
                raise AssertionError(f"{expr.__class__.__name__}: schedules leave none of these to a dialect")

    def _variable(self, name: str) -> Value:
        found = self.names[name]
        if isinstance(found, Value):
            return found
        versions = self.emitter.versions
        parts = [
            self.builder.local(
                index, found.type, found.lanes if len(found.locals) == 1 else 1, found.level, versions.get(index, 0)
            )
            for index in found.locals
        ]
        return parts[0] if len(parts) == 1 else self.builder.vector(tuple(parts))

    def _address(self, memory: _Memory, index: Value, bits: int) -> Value:
        return self.builder.sum([(memory.base, 1), (index, bits // 8)], memory.offset)

    def _element(self, memory: _Memory, name: str, address: Value, dtype: DType, lanes: int) -> Value:
        payload = (name, dtype, memory.version)
        return self.builder.make("load", payload, (address,), compute_type(dtype), lanes, level=memory.level)

    def _load(self, memory: _Memory, name: str, index: Value, lanes: int) -> Value:
        builder, dtype = self.builder, memory.dtype
        if lanes == 4 and (dtype.bits == 64 or dtype.bits < 8):
            each = [self._load(memory, name, builder.sum([(index, 1)], k), 1) for k in range(4)]
            return builder.vector(tuple(each))
        if dtype.bits < 8:
            return self._load_packed(memory, name, index)
        if dtype in NARROW_FLOATS:
            raw = DType.UINT16 if dtype.bits == 16 else DType.UINT8
            code = self._element(memory, name, self._address(memory, index, dtype.bits), raw, lanes)
            return builder.unpack(dtype, code)
        return self._element(memory, name, self._address(memory, index, dtype.bits), dtype, lanes)

    def _packed_place(self, memory: _Memory, index: Value) -> tuple[Value, Value]:
        """(address of the byte, shift in it) of an element smaller than a byte."""
        builder, bits = self.builder, memory.dtype.bits
        per_byte = 8 // bits
        low = builder.op(Op.BIT_AND, index, builder.const(per_byte - 1, Scalar.I32))
        shift = builder.sum([(low, bits)])
        if index.is_const:
            byte, shift = (
                builder.const(int(index.constant) // per_byte, Scalar.I32),
                builder.const(int(index.constant) % per_byte * bits, Scalar.I32),
            )
        else:
            byte = builder.op(Op.SHR, index, builder.const(per_byte.bit_length() - 1, Scalar.I32))
        return self._address(memory, byte, 8), builder.bitcast(Scalar.U32, shift)

    def _load_packed(self, memory: _Memory, name: str, index: Value) -> Value:
        builder, dtype = self.builder, memory.dtype
        address, shift = self._packed_place(memory, index)
        byte = self._element(memory, name, address, DType.UINT8, 1)
        code = builder.make("shift", Op.SHR, (byte, shift), Scalar.U32, 1)
        if dtype.is_signed_integer:
            return builder.sign_extend(builder.bitcast(Scalar.I32, code), dtype.bits)
        code = builder.op(Op.BIT_AND, code, builder.const((1 << dtype.bits) - 1, Scalar.U32))
        return builder.unpack(dtype, code) if dtype in NARROW_FLOATS else code

    # statements

    def block(self, statements: tuple[Stmt, ...]) -> None:
        """Statements with a scope of their own."""
        names, memories = dict(self.names), dict(self.memories)
        for statement in statements:
            self.statement(statement)
        self.names, self.memories = names, memories

    def statement(self, statement: Stmt) -> None:
        """One statement."""
        self.memo.clear()
        match statement:
            case Loop():
                self._loop(statement)
            case If():
                self._if(statement)
            case Store(buffer=buffer, index=index, value=value):
                self._store(self.memories[buffer], self.value(index), self.value(value), buffer)
            case Local():
                self._local(statement)
            case Assign(name=name, value=value):
                register = self.names[name]
                assert isinstance(register, _Register), f"{name}: a register that is assigned"
                self._set(register, self.value(value))
            case Barrier():
                raise AssertionError("Barrier: WebAssembly kernels have no workgroups")
        self.memo.clear()

    def _local(self, local: Local) -> None:
        if local.size is not None:
            assert self.scratch_base is not None, "kernels with arrays open their scratch memory"
            dtype = DType.INT32 if local.type is Scalar.BOOL else storage_type(local.type)
            self.scratch = (self.scratch + 15) // 16 * 16
            self.memories[local.name] = _Memory(self.scratch_base, dtype, self.scratch)
            self.scratch += local.size * dtype.bits // 8
            return
        init = self._initial(local)
        if local.name not in self.assigned:
            self.emitter.force(init)
            self.names[local.name] = init
            return
        count = 4 if local.lanes == 4 and local.type.bits == 64 else 1
        type = value_type(local.type, local.lanes if count == 1 else 1)
        indices = tuple(self.emitter.new_local(type) for _ in range(count))
        register = _Register(indices, local.type, local.lanes, self.depth)
        self._set(register, init)
        self.names[local.name] = register

    def _initial(self, local: Local) -> Value:
        zero = self.builder.const(0, local.type)
        return self.builder.splat(zero if local.init is None else self.value(local.init), local.lanes)

    def _set(self, register: _Register, value: Value) -> None:
        parts = [value] if len(register.locals) == 1 else [self.builder.lane(value, k) for k in range(4)]
        for part in parts:
            self.emitter.emit(part)
        for index in reversed(register.locals):
            self.emitter.code(("local.set", index))
        self._touch(register)

    def _touch(self, register: _Register) -> None:
        """From here on the register holds something else."""
        for index in register.locals:
            self.emitter.versions[index] = self.emitter.versions.get(index, 0) + 1
        register.level = self.depth

    def _touch_all(self, changed: tuple[frozenset[str], frozenset[str]]) -> None:
        registers, stored = changed
        for name in sorted(registers):
            register = self.names.get(name)
            if isinstance(register, _Register):
                self._touch(register)
        for name in sorted(stored):
            if name in self.memories:
                self._touch_memory(self.memories[name])

    def _touch_memory(self, memory: _Memory) -> None:
        memory.version += 1
        memory.level = self.depth

    def _if(self, branch: If) -> None:
        condition = self.value(branch.condition)
        if condition.is_const:
            self.block(branch.then if condition.constant else branch.otherwise)
            return
        emitter = self.emitter
        emitter.emit(condition)
        emitter.code(("if", ""))
        changed = _changed((branch,))
        for i, arm in enumerate((branch.then, branch.otherwise)):
            if i and not arm:
                continue
            if i:
                emitter.code(("else",))
                self._touch_all(changed)
            emitter.regions.append(Region(self.depth, guarded=True))
            self.block(arm)
            code = emitter.regions.pop().code
            emitter.code(*code)
        emitter.code(("end",))
        self._touch_all(changed)

    def _loop(self, loop: Loop) -> None:
        start, extent = self.value(loop.start), self.value(loop.extent)
        assert loop.kind in (LoopKind.SERIAL, LoopKind.UNROLL, LoopKind.PARALLEL), f"{loop.kind.value}: a GPU mapping"
        if extent.is_const and (loop.kind is LoopKind.UNROLL or extent.constant <= 1):
            shadowed = self.names.get(loop.var)
            for i in range(int(extent.constant)):
                self.names[loop.var] = self.builder.sum([(start, 1)], i * loop.step)
                self.block(loop.body)
            self._restore(loop.var, shadowed)
            return
        end = self.builder.sum([(start, 1), (extent, loop.step)])
        runs = extent.range is not None and extent.range[0] > 0
        self._range(loop, start, end, runs, _loop_range(start, extent.range, loop.step))

    def _restore(self, name: str, shadowed: Value | _Register | None) -> None:
        if shadowed is None:
            self.names.pop(name, None)
        else:
            self.names[name] = shadowed

    def _range(self, loop: Loop, start: Value, end: Value, runs: bool, bounds: Range | None) -> None:
        """`for var in range(start, end, step)`; runs: whether there certainly is a first iteration."""
        emitter, builder = self.emitter, self.builder
        emitter.force(start)
        emitter.force(end)
        if not runs:
            emitter.emit(start)
            emitter.emit(end)
            emitter.code(("i32.lt_s",), ("if", ""))
        entry_position = self._enter(guarded=not runs)
        variable = emitter.new_local("i32")
        emitter.emit(start)
        emitter.code(("local.set", variable))
        value = builder.local(variable, Scalar.I32, 1, self.depth + 1, 0, bounds)
        induction = Induction(value, start, loop.step, entry_position)
        emitter.regions.append(Region(self.depth + 1, loop=induction))
        shadowed = self.names.get(loop.var)
        changed = _changed(loop.body)
        self._touch_all(changed)
        self.names[loop.var] = value
        self.block(loop.body)
        self._restore(loop.var, shadowed)
        body = emitter.regions.pop()
        emitter.code(("loop", ""), *body.code, *induction.latch)
        emitter.code(("local.get", variable), ("i32.const", loop.step), ("i32.add",), ("local.tee", variable))
        emitter.emit(end)
        emitter.code(("i32.lt_s",), ("br_if", 0), ("end",))
        self._leave(changed)
        if not runs:
            emitter.code(("end",))

    def _enter(self, *, guarded: bool) -> int:
        """Open the entry of a loop; returns its position."""
        self.emitter.regions.append(Region(self.depth, guarded=guarded, entry=True))
        self.memo.clear()
        return self.emitter.top

    def _leave(self, changed: tuple[frozenset[str], frozenset[str]]) -> None:
        entry = self.emitter.regions.pop()
        self.emitter.code(*entry.code)
        self._touch_all(changed)
        self.memo.clear()

    # parallel loops

    def parallel(self, loop: Loop, begin: int, end: int) -> None:
        """A perfect nest of parallel loops, of whose flattened range this call carries out begin .. end-1."""
        builder = self.builder
        nest = [loop]
        while len(nest[-1].body) == 1:
            inner = nest[-1].body[0]
            if not isinstance(inner, Loop) or inner.kind is not LoopKind.PARALLEL:
                break
            nest.append(inner)
        body = nest[-1].body
        kept: list[tuple[Loop, Value, Value]] = []
        for item in nest:
            start, extent = self.value(item.start), self.value(item.extent)
            if extent.is_const and extent.constant == 1:
                self.names[item.var] = start
            else:
                kept.append((item, start, extent))
        first, last = (builder.local(index, Scalar.I32, 1, 0, 0) for index in (begin, end))
        if len(kept) <= 1:
            item, start, extent = (
                kept[0] if kept else (nest[-1], self.value(nest[-1].start), builder.const(1, Scalar.I32))
            )
            low, high = (builder.sum([(start, 1), (bound, item.step)]) for bound in (first, last))
            flat = Loop(item.var, item.extent, body, LoopKind.SERIAL, item.start, item.step)
            self._range(flat, low, high, False, _loop_range(start, extent.range, item.step))
            return
        self._odometer(kept, body, begin, end)

    def _odometer(self, nest: list[tuple[Loop, Value, Value]], body: tuple[Stmt, ...], begin: int, end: int) -> None:
        """Runs of the innermost loop inside one loop that carries the other positions on like an odometer."""
        emitter, builder = self.emitter, self.builder
        for _, start, extent in nest:
            emitter.force(start)
            emitter.force(extent)
        positions = [emitter.new_local("i32") for _ in nest]
        emitter.code(("local.get", begin), ("local.get", end), ("i32.lt_s",), ("if", ""))
        self._enter(guarded=True)
        self._decompose(nest, positions, begin)
        emitter.regions.append(Region(self.depth + 1))
        changed = _changed(body)
        self._touch_all(changed)
        for (loop, start, extent), position in zip(nest[:-1], positions[:-1], strict=True):
            most = INT_MAX if extent.range is None else max(extent.range[1] - 1, 0)
            at = builder.local(position, Scalar.I32, 1, self.depth, 0, (0, most))
            self.names[loop.var] = builder.sum([(start, 1), (at, loop.step)])
        inner, start, extent = nest[-1]
        stop = emitter.new_local("i32")
        # The inner loop runs to its end or to the end of this call's range, whichever is nearer.
        emitter.code(("local.get", positions[-1]), ("local.get", end), ("i32.add",), ("local.get", begin), ("i32.sub",))
        emitter.code(("local.set", stop))
        emitter.emit(extent)
        emitter.code(("local.get", stop))
        emitter.emit(extent)
        emitter.code(("local.get", stop), ("i32.lt_s",), ("select",), ("local.set", stop))
        level = self.depth
        low = builder.local(positions[-1], Scalar.I32, 1, level, 0, (0, INT_MAX))
        high = builder.local(stop, Scalar.I32, 1, level, 0)
        flat = Loop(inner.var, inner.extent, body, LoopKind.SERIAL, inner.start, inner.step)
        bounded = builder.sum([(start, 1), (low, inner.step)])
        bounds = _loop_range(start, extent.range, inner.step)
        self._range(flat, bounded, builder.sum([(start, 1), (high, inner.step)]), True, bounds)
        emitter.code(
            ("local.get", begin), ("local.get", stop), ("i32.add",), ("local.get", positions[-1]), ("i32.sub",)
        )
        emitter.code(("local.set", begin), ("i32.const", 0), ("local.set", positions[-1]))
        self._carry(nest, positions)
        emitter.code(("local.get", begin), ("local.get", end), ("i32.lt_s",), ("br_if", 0))
        body_code = emitter.regions.pop().code
        emitter.code(("loop", ""), *body_code, ("end",))
        self._leave(changed)
        emitter.code(("end",))

    def _decompose(self, nest: list[tuple[Loop, Value, Value]], positions: list[int], begin: int) -> None:
        emitter = self.emitter
        rest = emitter.new_local("i32")
        emitter.code(("local.get", begin), ("local.set", rest))
        for (_, _, extent), position in reversed(list(zip(nest, positions, strict=True))[1:]):
            emitter.code(("local.get", rest))
            emitter.emit(extent)
            emitter.code(("i32.rem_u",), ("local.set", position), ("local.get", rest))
            emitter.emit(extent)
            emitter.code(("i32.div_u",), ("local.set", rest))
        emitter.code(("local.get", rest), ("local.set", positions[0]))

    def _carry(self, nest: list[tuple[Loop, Value, Value]], positions: list[int]) -> None:
        """Advance the outer positions by one: the last of them first."""
        emitter = self.emitter
        for depth, ((_, _, extent), position) in enumerate(reversed(list(zip(nest[:-1], positions[:-1], strict=True)))):
            emitter.code(("local.get", position), ("i32.const", 1), ("i32.add",), ("local.tee", position))
            if depth < len(nest) - 2:
                emitter.emit(extent)
                emitter.code(("i32.eq",), ("if", ""), ("i32.const", 0), ("local.set", position))
            else:
                emitter.code(("drop",))
        emitter.code(*[("end",)] * (len(nest) - 2))

    # stores

    def _store(self, memory: _Memory, index: Value, value: Value, name: str) -> None:
        builder, dtype = self.builder, memory.dtype
        if value.lanes == 4 and (dtype.bits == 64 or dtype.bits < 8):
            self.emitter.force(value)
            for k in range(4):
                self._store(memory, builder.sum([(index, 1)], k), builder.lane(value, k), name)
        elif dtype.bits < 8:
            self._store_packed(memory, index, value, name)
        else:
            if dtype in NARROW_FLOATS:
                value = builder.pack(dtype, value)
                dtype = DType.UINT16 if dtype.bits == 16 else DType.UINT8
            self._put(self._address(memory, index, dtype.bits), value, dtype)
        self._touch_memory(memory)

    def _store_packed(self, memory: _Memory, index: Value, value: Value, name: str) -> None:
        """Read the byte, replace the element's bits, write it back."""
        builder, dtype = self.builder, memory.dtype
        code = builder.pack(dtype, value) if dtype in NARROW_FLOATS else builder.convert(Scalar.U32, value)
        mask = builder.const((1 << dtype.bits) - 1, Scalar.U32)
        address, shift = self._packed_place(memory, index)
        byte = self._element(memory, name, address, DType.UINT8, 1)
        hole = builder.make("shift", Op.SHL, (mask, shift), Scalar.U32, 1)
        rest = builder.op(Op.BIT_AND, byte, builder.op(Op.BIT_NOT, hole))
        placed = builder.make("shift", Op.SHL, (builder.op(Op.BIT_AND, code, mask), shift), Scalar.U32, 1)
        self._put(address, builder.op(Op.BIT_OR, rest, placed), DType.UINT8)

    def _put(self, address: Value, value: Value, dtype: DType) -> None:
        emitter, builder = self.emitter, self.builder
        offset = emitter.address(address, emitter.top)
        if value.lanes == 1:
            emitter.emit(value)
            emitter.code((SCALAR_STORES[dtype], offset, {8: 0, 16: 1, 32: 2, 64: 3}[dtype.bits]))
            return
        if dtype.bits == 32 and value.type is not Scalar.BOOL:
            emitter.emit(value)
            emitter.code(("v128.store", offset, 2))
            return
        value = builder.convert(Scalar.U32, value)
        literal = builder.splat(builder.const((1 << dtype.bits) - 1, Scalar.U32), 4)
        emitter.emit(builder.op(Op.BIT_AND, value, literal) if dtype.bits < 32 else value)
        zeros: Instruction = ("v128.const", bytes(16))
        if dtype.bits == 32:
            emitter.code(("v128.store", offset, 2))
            return
        emitter.code(zeros, ("i16x8.narrow_i32x4_u",))
        if dtype.bits == 16:
            emitter.code(("v128.store64_lane", offset, 1, 0))
        else:
            emitter.code(zeros, ("i8x16.narrow_i16x8_u",), ("v128.store32_lane", offset, 0, 0))


def _loop_range(start: Value, extent: Range | None, step: int) -> Range | None:
    if start.range is None:
        return None
    low, high = start.range
    if extent is None:
        return (low, INT_MAX)
    last = high + max(extent[1] - 1, 0) * step
    return (low, min(last, INT_MAX))


def _changed(statements: tuple[Stmt, ...]) -> tuple[frozenset[str], frozenset[str]]:
    """(registers assigned, buffers and arrays stored) anywhere in the statements."""
    registers: set[str] = set()
    stored: set[str] = set()

    def visit(items: tuple[Stmt, ...]) -> None:
        for item in items:
            match item:
                case Loop(body=body):
                    visit(body)
                case If(then=then, otherwise=otherwise):
                    visit(then)
                    visit(otherwise)
                case Assign(name=name):
                    registers.add(name)
                case Store(buffer=buffer):
                    stored.add(buffer)
                case _:
                    pass

    visit(statements)
    return frozenset(registers), frozenset(stored)


def _array_bytes(statements: tuple[Stmt, ...]) -> int:
    """An upper bound of the bytes of local arrays, at most one place per declaration."""
    total = 0
    for item in statements:
        match item:
            case Local(type=type, size=size) if size is not None:
                total += (size * type.bits // 8 + 15) // 16 * 16
            case Loop(body=body, extent=extent, kind=kind):
                copies = extent.value if kind is LoopKind.UNROLL and isinstance(extent, Const) else 1
                total += _array_bytes(body) * int(copies)
            case If(then=then, otherwise=otherwise):
                total += _array_bytes(then) + _array_bytes(otherwise)
            case _:
                pass
    return total
