"""Writes statements of the loop IR as the code of one function.

An expression becomes a `Value`, which is computed where it is first needed and kept as long as nothing that it depends
on changes: assignments and stores count up versions, and values name the versions that they were made from.
"""

from __future__ import annotations

from dataclasses import dataclass, field

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
from webdnn_backends.ir.rewrite import free_variables, loads
from webdnn_backends.ir.scalars import Op, Scalar, compute_type, storage_type
from webdnn_backends.wasm.builder import Builder
from webdnn_backends.wasm.emit import Emitter, Induction, Region
from webdnn_backends.wasm.encode import Function, FunctionType
from webdnn_backends.wasm.opcodes import Instruction
from webdnn_backends.wasm.peephole import tidy
from webdnn_backends.wasm.rows import SCALAR_STORES, value_type
from webdnn_backends.wasm.values import INT_MAX, Range, Value
from webdnn_onnx.dtypes import DType

__all__ = ["CompiledKernel", "Memory", "Writer", "array_bytes", "changes", "loop_range"]


_ONE_BY_ONE = (LoopKind.SERIAL, LoopKind.UNROLL, LoopKind.PARALLEL, LoopKind.INDEPENDENT)


@dataclass(frozen=True)
class CompiledKernel:
    """One kernel as a function. helpers: definitions that it calls. scratch: bytes of its local arrays. fused: whether
    it differs from the one without relaxed SIMD."""

    function: Function
    helpers: tuple[Definition, ...]
    scratch: int
    fused: bool


@dataclass
class Register:
    """A loop-IR register that is assigned: its wasm locals (four for 64-bit lanes) and where it was last assigned."""

    locals: tuple[int, ...]
    type: Scalar
    lanes: int
    level: int


@dataclass
class Memory:
    """A buffer or local array. dtype: of its elements. version, level: of the last store to it."""

    base: Value
    dtype: DType
    offset: int = 0
    version: int = 0
    level: int = 0


@dataclass
class Writer:
    """Writes the statements of one function. assigned: names of the registers that are ever assigned. memo: values of
    expressions in this statement; known: of arithmetic by what its variables stand for, in the whole function."""

    relaxed: bool
    parameters: int
    assigned: frozenset[str]
    names: dict[str, Value | Register] = field(default_factory=dict)
    memories: dict[str, Memory] = field(default_factory=dict)
    scratch: int = 0
    scratch_base: Value | None = None
    memo: dict[int, Value] = field(default_factory=dict)
    known: dict[tuple[object, ...], Value] = field(default_factory=dict)

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
        return CompiledKernel(function, tuple(self.builder.helpers.values()), self.scratch, self.builder.fused)

    # expressions

    def value(self, expr: Expr) -> Value:
        """The value of an expression at this place."""
        found = self.memo.get(id(expr))
        if found is None:
            found = self.memo[id(expr)] = self._arithmetic(expr) if isinstance(expr, Apply) else self._value(expr)
        return found

    def _arithmetic(self, expr: Apply) -> Value:
        """The value of an operator; the same indices come in many statements, and are worked out once."""
        if loads(expr):
            return self._value(expr)
        names = [self.names[name] for name in sorted(free_variables(expr))]
        if any(isinstance(name, Register) for name in names):
            return self._value(expr)
        key = (expr, *names)
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = self._value(expr)
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

    def _address(self, memory: Memory, index: Value, bits: int) -> Value:
        return self.builder.sum([(memory.base, 1), (index, bits // 8)], memory.offset)

    def _element(self, memory: Memory, name: str, address: Value, dtype: DType, lanes: int) -> Value:
        payload = (name, dtype, memory.version)
        return self.builder.make("load", payload, (address,), compute_type(dtype), lanes, level=memory.level)

    def _load(self, memory: Memory, name: str, index: Value, lanes: int) -> Value:
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

    def _packed_place(self, memory: Memory, index: Value) -> tuple[Value, Value]:
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

    def _load_packed(self, memory: Memory, name: str, index: Value) -> Value:
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
                assert isinstance(register, Register), f"{name}: a register that is assigned"
                self._set(register, self.value(value))
            case Barrier():
                raise AssertionError("Barrier: WebAssembly kernels have no workgroups")
        self.memo.clear()

    def _local(self, local: Local) -> None:
        if local.size is not None:
            assert self.scratch_base is not None, "kernels with arrays open their scratch memory"
            dtype = DType.INT32 if local.type is Scalar.BOOL else storage_type(local.type)
            self.scratch = (self.scratch + 15) // 16 * 16
            self.memories[local.name] = Memory(self.scratch_base, dtype, self.scratch)
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
        register = Register(indices, local.type, local.lanes, self.depth)
        self._set(register, init)
        self.names[local.name] = register

    def _initial(self, local: Local) -> Value:
        zero = self.builder.const(0, local.type)
        return self.builder.splat(zero if local.init is None else self.value(local.init), local.lanes)

    def _set(self, register: Register, value: Value) -> None:
        parts = [value] if len(register.locals) == 1 else [self.builder.lane(value, k) for k in range(4)]
        for part in parts:
            self.emitter.emit(part)
        for index in reversed(register.locals):
            self.emitter.code(("local.set", index))
        self._touch(register)

    def _touch(self, register: Register) -> None:
        """From here on the register holds something else."""
        for index in register.locals:
            self.emitter.versions[index] = self.emitter.versions.get(index, 0) + 1
        register.level = self.depth

    def touch_all(self, changed: tuple[frozenset[str], frozenset[str]]) -> None:
        registers, stored = changed
        for name in sorted(registers):
            register = self.names.get(name)
            if isinstance(register, Register):
                self._touch(register)
        for name in sorted(stored):
            if name in self.memories:
                self._touch_memory(self.memories[name])

    def _touch_memory(self, memory: Memory) -> None:
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
        changed = changes((branch,))
        for i, arm in enumerate((branch.then, branch.otherwise)):
            if i and not arm:
                continue
            if i:
                emitter.code(("else",))
                self.touch_all(changed)
            emitter.regions.append(Region(self.depth, guarded=True))
            self.block(arm)
            code = emitter.regions.pop().code
            emitter.code(*code)
        emitter.code(("end",))
        self.touch_all(changed)

    def _loop(self, loop: Loop) -> None:
        start, extent = self.value(loop.start), self.value(loop.extent)
        assert loop.kind in _ONE_BY_ONE, f"{loop.kind.value}: a GPU mapping"
        if extent.is_const and (loop.kind is LoopKind.UNROLL or extent.constant <= 1):
            shadowed = self.names.get(loop.var)
            for i in range(int(extent.constant)):
                self.names[loop.var] = self.builder.sum([(start, 1)], i * loop.step)
                self.block(loop.body)
            self._restore(loop.var, shadowed)
            return
        end = self.builder.sum([(start, 1), (extent, loop.step)])
        runs = extent.range is not None and extent.range[0] > 0
        self.range(loop, start, end, runs, loop_range(start, extent.range, loop.step))

    def _restore(self, name: str, shadowed: Value | Register | None) -> None:
        if shadowed is None:
            self.names.pop(name, None)
        else:
            self.names[name] = shadowed

    def range(self, loop: Loop, start: Value, end: Value, runs: bool, bounds: Range | None) -> None:
        """`for var in range(start, end, step)`; runs: whether there certainly is a first iteration."""
        emitter, builder = self.emitter, self.builder
        emitter.force(start)
        emitter.force(end)
        if not runs:
            emitter.emit(start)
            emitter.emit(end)
            emitter.code(("i32.lt_s",), ("if", ""))
        entry_position = self.enter(guarded=not runs)
        variable = emitter.new_local("i32")
        emitter.emit(start)
        emitter.code(("local.set", variable))
        value = builder.local(variable, Scalar.I32, 1, self.depth + 1, 0, bounds)
        induction = Induction(value, start, loop.step, entry_position)
        emitter.regions.append(Region(self.depth + 1, loop=induction))
        shadowed = self.names.get(loop.var)
        changed = changes(loop.body)
        self.touch_all(changed)
        self.names[loop.var] = value
        self.block(loop.body)
        self._restore(loop.var, shadowed)
        body = emitter.regions.pop()
        emitter.code(("loop", ""), *body.code, *induction.latch)
        emitter.code(("local.get", variable), ("i32.const", loop.step), ("i32.add",), ("local.tee", variable))
        emitter.emit(end)
        emitter.code(("i32.lt_s",), ("br_if", 0), ("end",))
        self.leave(changed)
        if not runs:
            emitter.code(("end",))

    def enter(self, *, guarded: bool) -> int:
        """Open the entry of a loop; returns its position."""
        self.emitter.regions.append(Region(self.depth, guarded=guarded, entry=True))
        self.memo.clear()
        return self.emitter.top

    def leave(self, changed: tuple[frozenset[str], frozenset[str]]) -> None:
        entry = self.emitter.regions.pop()
        self.emitter.code(*entry.code)
        self.touch_all(changed)
        self.memo.clear()

    # stores

    def _store(self, memory: Memory, index: Value, value: Value, name: str) -> None:
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

    def _store_packed(self, memory: Memory, index: Value, value: Value, name: str) -> None:
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


def loop_range(start: Value, extent: Range | None, step: int) -> Range | None:
    if start.range is None:
        return None
    low, high = start.range
    if extent is None:
        return (low, INT_MAX)
    last = high + max(extent[1] - 1, 0) * step
    return (low, min(last, INT_MAX))


def changes(statements: tuple[Stmt, ...]) -> tuple[frozenset[str], frozenset[str]]:
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


def array_bytes(statements: tuple[Stmt, ...]) -> int:
    """An upper bound of the bytes of local arrays, at most one place per declaration."""
    total = 0
    for item in statements:
        match item:
            case Local(type=type, size=size) if size is not None:
                total += (size * type.bits // 8 + 15) // 16 * 16
            case Loop(body=body, extent=extent, kind=kind):
                copies = extent.value if kind is LoopKind.UNROLL and isinstance(extent, Const) else 1
                total += array_bytes(body) * int(copies)
            case If(then=then, otherwise=otherwise):
                total += array_bytes(then) + array_bytes(otherwise)
            case _:
                pass
    return total
