"""Vector code from Python: the body of a kernel's inner loop, emitted as LLVM instructions inside a numba function.

numba compiles plain loops well, but it cannot be told to hold a tile of sums in registers. So the few innermost pieces
are functions of a `VectorBuilder`, which appends instructions on vectors of 16 floats; `emit` makes of such a function
an intrinsic that compiled code calls by name. LLVM maps 16 lanes to what the machine has: one AVX-512 register, two of
AVX2, four of NEON.

An intrinsic's arguments are int64: addresses in bytes, strides and counts in floats. numba's disk cache watches only
the file in which a compiled function stands: after an edit of *this* file, delete the ``__pycache__`` of its users.
"""

import functools
import inspect
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from struct import Struct
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.caching import FunctionCache
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from .calls import collected, issue, keep

LANES = 16  # floats in a vector
FLOAT, DOUBLE, INT, I32 = ir.FloatType(), ir.DoubleType(), ir.IntType(64), ir.IntType(32)
VECTOR, WIDE = ir.VectorType(FLOAT, LANES), ir.VectorType(DOUBLE, LANES)

# A register tile holds ROWS x VECTORS sums. With 32 registers of 16 floats 8 x 2 hides the latency of multiply-adds and
# leaves room for operands; elsewhere a vector takes two or four registers, and a larger tile would spill.
MACHINE, _, FEATURES = cpu_target.target_context.codegen().magic_tuple()
AVX512 = "+avx512f" in FEATURES
ROWS, VECTORS = (8, 2) if AVX512 else (4, 1)

# Bits of the register that says how x86 computes with floats: what is made too small is zero, and what is read, too.
X86, FLUSH_TO_ZERO, SUBNORMALS_ARE_ZERO = MACHINE.startswith("x86_64"), 1 << 15, 1 << 6


class VectorBuilder:
    """The vector operations a kernel needs, on one IRBuilder. Offsets count floats; Python numbers become constants."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.b = builder

    def pointer(self, address: ir.Value) -> ir.Value:
        """Address (int64) -> pointer to floats."""
        return self.b.inttoptr(address, FLOAT.as_pointer())

    def at(self, pointer: ir.Value, *offsets: ir.Value | int) -> ir.Value:
        """Move a pointer, or an address, by so many floats."""
        if pointer.type == INT:
            pointer = self.pointer(pointer)
        for offset in offsets:
            pointer = self.b.gep(pointer, [INT(offset) if isinstance(offset, int) else offset])
        return pointer

    def times(self, number: int, value: ir.Value) -> ir.Value:
        """Product of a number and an int64."""
        return self.b.mul(INT(number), value)

    def load(self, pointer: ir.Value, kind: ir.Type = VECTOR) -> ir.Value:
        """Load a vector. Correct at any address, fast at multiples of 64 bytes."""
        value = self.b.load(self.b.bitcast(pointer, kind.as_pointer()))
        value.align = 4
        return value

    def store(self, value: ir.Value, pointer: ir.Value) -> None:
        """Store a vector."""
        self.b.store(value, self.b.bitcast(pointer, value.type.as_pointer())).align = 4

    def stream(self, value: ir.Value, pointer: ir.Value) -> None:
        """Store a vector past the caches, at a multiple of 64 bytes: what is stored is not read again soon."""
        store = self.b.store(value, self.b.bitcast(pointer, value.type.as_pointer()))
        store.align = 64
        store.set_metadata("nontemporal", self.b.module.add_metadata([I32(1)]))

    def broadcast(self, pointer: ir.Value) -> ir.Value:
        """Load a float into all lanes."""
        undefined = ir.Constant(VECTOR, ir.Undefined)
        lane0 = self.b.insert_element(undefined, self.b.load(pointer), I32(0))
        return self.shuffle(lane0, undefined, [0] * LANES)

    def shuffle(self, a: ir.Value, b: ir.Value, lanes: Sequence[int]) -> ir.Value:
        """Pick lanes from a (0..15) and b (16..31)."""
        return self.b.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, LANES), list(lanes)))

    def prefetch(self, pointer: ir.Value, write: bool = False) -> None:
        """Ask for a cache line to be brought into L2."""
        byte = ir.IntType(8).as_pointer()
        function = self._function("llvm.prefetch.p0", ir.VoidType(), [byte, I32, I32, I32])
        self.b.call(function, [self.b.bitcast(pointer, byte), I32(int(write)), I32(2), I32(1)])

    def vector(self, value: ir.Value | float) -> ir.Value:
        """Number -> vector of it; a vector stays."""
        return ir.Constant(VECTOR, [float(value)] * LANES) if isinstance(value, int | float) else value

    def fma(self, a: ir.Value | float, b: ir.Value | float, c: ir.Value) -> ir.Value:
        """``a * b + c``, rounded once."""
        function = self._function(f"llvm.fma.v{LANES}f32", VECTOR, [VECTOR] * 3)
        return self.b.call(function, [self.vector(a), self.vector(b), self.vector(c)])

    def mul(self, a: ir.Value | float, b: ir.Value) -> ir.Value:
        """``a * b``."""
        return self.b.fmul(self.vector(a), self.vector(b))

    def add(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """``a + b``."""
        return self.b.fadd(a, b)

    def sub(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """``a - b``."""
        return self.b.fsub(a, b)

    def total(self, values: Sequence[ir.Value]) -> ir.Value:
        """Sum of the vectors, as a tree: its chain is short."""
        values = list(values)
        while len(values) > 1:
            pairs = [values[i : i + 2] for i in range(0, len(values), 2)]
            values = [self.add(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
        return values[0]

    def relu(self, value: ir.Value) -> ir.Value:
        """max(value, 0); a NaN stays."""
        zero = self.vector(0)
        return self.b.select(self.b.fcmp_ordered(">", zero, value), zero, value)

    def where_positive(self, test: ir.Value, value: ir.Value) -> ir.Value:
        """Value where test > 0, else 0."""
        zero = self.vector(0)
        return self.b.select(self.b.fcmp_ordered(">", test, zero), value, zero)

    def bit(self, number: ir.Value, index: int) -> ir.Value:
        """Return whether this bit of an int64 is set."""
        return self.b.trunc(self.b.lshr(number, INT(index)), ir.IntType(1))

    def select(self, condition: ir.Value, yes: ir.Value, no: ir.Value) -> ir.Value:
        """Yes if the condition (one bit) holds, else no."""
        return self.b.select(condition, yes, no)

    def transpose(self, rows: Sequence[ir.Value]) -> list[ir.Value]:
        """Transpose 16 vectors: four perfect shuffles."""
        half, rows = LANES // 2, list(rows)
        low = [lane // 2 + LANES * (lane % 2) for lane in range(LANES)]
        for _ in range(4):
            pairs = [(rows[i], rows[i + half]) for i in range(half)]
            rows = [self.shuffle(a, b, [lane + part for lane in low]) for a, b in pairs for part in (0, half)]
        return rows

    def copy(self, source: ir.Value, target: ir.Value, count: ir.Value) -> None:
        """Copy count floats between arrays that do not overlap."""
        byte = ir.IntType(8).as_pointer()
        function = self._function("llvm.memcpy.p0.p0.i64", ir.VoidType(), [byte, byte, INT, ir.IntType(1)])
        ends = [self.b.inttoptr(address, byte) for address in (target, source)]
        self.b.call(function, [*ends, self.times(4, count), ir.IntType(1)(0)])

    def clear(self, target: ir.Value, count: ir.Value) -> None:
        """Set count floats to 0."""
        byte, false = ir.IntType(8), ir.IntType(1)(0)
        function = self._function("llvm.memset.p0.i64", ir.VoidType(), [byte.as_pointer(), byte, INT, ir.IntType(1)])
        self.b.call(function, [self.b.inttoptr(target, byte.as_pointer()), byte(0), self.times(4, count), false])

    def loop(self, stop: ir.Value, carried: Sequence[ir.Value], body: Callable) -> list[ir.Value]:
        """For i in range(stop): carried = body(i, carried); at least once. Returns the final vectors."""
        b, before = self.b, self.b.block
        head, done = b.append_basic_block("loop"), b.append_basic_block("done")
        b.branch(head)
        b.position_at_end(head)
        i, phis = b.phi(INT), [b.phi(VECTOR) for _ in carried]
        after = body(i, phis)
        i_next = b.add(i, INT(1))
        for phi, start, value in zip([i, *phis], [INT(0), *carried], [i_next, *after], strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(value, b.block)
        b.cbranch(b.icmp_signed("<", i_next, stop), head, done)
        b.position_at_end(done)
        return after

    def _function(self, name: str, result: ir.Type, arguments: list[ir.Type]) -> ir.Function:
        return cgutils.get_or_insert_function(self.b.module, ir.FunctionType(result, arguments), name)


def emit(*bodies: Callable) -> Callable:
    """Make an intrinsic of body(v, *arguments): v is a VectorBuilder, the arguments are int64.

    Of several bodies with the same arguments, the intrinsic runs one: its additional first argument is the number.
    """
    signature = inspect.signature(bodies[0])
    parameters = list(signature.parameters.values())
    if len(bodies) > 1:
        parameters.insert(1, inspect.Parameter("which", inspect.Parameter.POSITIONAL_OR_KEYWORD))
    result = types.void(*[types.int64] * (len(parameters) - 1))

    def codegen(context, builder, _, arguments):
        if len(bodies) == 1:
            bodies[0](VectorBuilder(builder), *arguments)
        else:
            for number, body in enumerate(bodies):
                with builder.if_then(builder.icmp_signed("==", arguments[0], INT(number))):
                    body(VectorBuilder(builder), *arguments[1:])
        return context.get_dummy_value()

    def typer(typing_context, *arguments):
        return result, codegen

    typer.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # numba asks for it
    return intrinsic(typer)


@intrinsic(prefer_literal=True)
def numbers(typing_context, address, count):
    """Unpack so many int64 that lie at an address."""
    result = types.UniTuple(types.int64, count.literal_value)

    def codegen(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], INT.as_pointer())
        values = [builder.load(builder.gep(pointer, [INT(i)])) for i in range(count.literal_value)]
        return context.make_tuple(builder, result, values)

    return result(types.int64, count), codegen


@intrinsic
def real(typing_context, number):
    """Read the bits of an int64 as a float64; `bits` makes such an int64."""

    def codegen(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], DOUBLE)

    return types.float64(types.int64), codegen


def bits(number: float) -> int:
    """Return an int64 with the bits of a float64: a kernel's arguments are integers."""
    (integer,) = INTEGER.unpack(REAL.pack(number))
    return integer


REAL, INTEGER = Struct("d"), Struct("q")


def pointer_to(kind):
    """Make an intrinsic that turns an address into a pointer to numbers of a type: ``floats(a)[i]`` is one of them."""

    def typer(typing_context, address):
        signature = types.CPointer(kind)(types.int64)

        def codegen(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return signature, codegen

    return intrinsic(typer)


floats, doubles = pointer_to(types.float32), pointer_to(types.float64)
integers, octets = pointer_to(types.int64), pointer_to(types.uint8)


@intrinsic
def call(typing_context, function, t, threads, arguments):
    """Call the compiled function at an address; to it, subnormal numbers are zero."""

    def codegen(context, builder, signature, values):
        function = builder.inttoptr(values[0], ir.FunctionType(ir.VoidType(), [INT] * 3).as_pointer())
        with subnormals_are_zero(builder):
            builder.call(function, values[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@contextmanager
def subnormals_are_zero(builder: ir.IRBuilder) -> Iterator[None]:
    """Let what is computed in a ``with`` block, on this thread, take numbers below 1.2e-38 as zero, and make none.

    Weights of units that are never active, and what the optimizer keeps for them, decay towards zero without end: soon
    a third of a dense layer are such numbers, and an instruction that meets one takes a hundred times as long. Only
    x86 is told so.
    """
    if not X86:
        yield
        return
    control = cgutils.alloca_once(builder, I32)
    address = builder.bitcast(control, ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [address.type])
    save, load = (
        cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{name}") for name in ("stmxcsr", "ldmxcsr")
    )
    builder.call(save, [address])
    before = builder.load(control)
    builder.store(builder.or_(before, I32(FLUSH_TO_ZERO | SUBNORMALS_ARE_ZERO)), control)
    builder.call(load, [address])
    yield
    builder.store(before, control)
    builder.call(load, [address])


@numba.njit(parallel=True, cache=True)
def launch(function, threads, arguments):
    """Call a function on every thread."""
    if threads == 1:
        call(function, 0, threads, arguments)
    else:
        for t in numba.prange(threads):
            call(function, t, threads, arguments)


class Kernel:
    """A function (t, threads, arguments) that does the share of thread t, as a call that runs it on all threads.

    The arguments are int64 numbers, sizes and addresses; the function unpacks them with `numbers`. It is compiled at
    the first call, or found on disk; `precompile` compiles before that. numba's own ``parallel=True`` would compile
    each function three times over, since it links what it has compiled into what calls it, and take seconds to divide
    loops that are divided here by hand; called through its address, a function is compiled once, for one kind of
    argument.
    """

    __name__: str

    def __init__(self, function: Callable) -> None:
        self.function = function
        self.compiled: Any = None
        functools.update_wrapper(self, function)

    def __call__(self, *arguments: int, threads: int | None = None) -> None:
        """Run on so many threads; on all if that is None."""
        if collected(self):
            return
        packed, address = array("q", arguments), self.address
        keep(packed)
        place, _ = packed.buffer_info()
        issue(launch, address, threads or numba.get_num_threads(), place)

    @property
    def address(self) -> int:
        """Where the compiled function lies; another kernel may `call` it."""
        if collected(self):
            return 0
        if self.compiled is None and not self.load():
            self.compile()
        return self.compiled.address

    def load(self) -> bool:
        """Take what was compiled before from disk, and return whether it was there."""
        if self.compiled is None:
            cache = on_disk(self.function)
            if cache and (found := cache.load_overload(SHARE, cpu_target.target_context)):
                address = found.library.get_pointer_to_function(found.fndesc.llvm_cfunc_wrapper_name)
                self.compiled = Compiled(address, found.library, from_disk=True)
        return self.compiled is not None

    def compile(self) -> None:
        """Compile the function, and leave it on disk for other processes."""
        function = numba.cfunc(SHARE, cache=True, error_model="numpy")(self.function)
        address: Any = function.address
        self.compiled = Compiled(address, function, from_disk=function.cache_hits > 0)


def on_disk(function: Callable) -> FunctionCache | None:
    """Return numba's cache of a function; None if no folder can be written."""
    try:
        return FunctionCache(function)
    except RuntimeError:
        return None


class Compiled:
    """Machine code of a kernel, at an address.

    Parameters
    ----------
    owner : object
        What keeps it there.
    """

    def __init__(self, address: int, owner: Any, *, from_disk: bool) -> None:
        self.address, self.owner, self.from_disk = address, owner, from_disk


SHARE = types.void(types.int64, types.int64, types.int64)
kernel = Kernel


# Pieces that several kernels use.


def multiply_add(v, column, row, sums):
    """Update a register tile: sums[r, n] += column[r] * row[n], column given as pointers to scalars."""
    result = []
    for r, pointer in enumerate(column):
        scalar = v.broadcast(pointer)
        result += [v.fma(scalar, vector, sums[r * len(row) + n]) for n, vector in enumerate(row)]
    return result


@emit
def clear(v, address, count):
    """Set count floats to 0."""
    v.clear(address, count)


@emit
def copy(v, source, target, count):
    """Copy count floats between arrays that do not overlap."""
    v.copy(source, target, count)


@emit
def add_to_double(v, part, sums, count):
    """Sums (float64) += part (float32); part = 0."""

    def step(i, carried):
        here = v.times(LANES, i)
        source, target = v.at(part, here), v.at(v.at(sums, here), here)
        v.store(v.b.fadd(v.load(target, WIDE), v.b.fpext(v.load(source), WIDE)), target)
        v.store(v.vector(0), source)
        return carried

    v.loop(v.b.udiv(count, INT(LANES)), [], step)
