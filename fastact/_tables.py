"""What all languages share: operations, kernels, types, SIMD levels, and the numbers of C and Python.

This module imports nothing.  setup.py reads it by its path and writes a C header and Cython declarations of it into
the build folder: every constant that is an integer or a string, the kernels' numbers, the levels' features and
`struct inner_loop`.
"""

# ---- operations and kernels ------------------------------------------------------------------------------------------

# What each kernel reads, in the order of the public signatures.  copy and add are the bandwidth bounds that the
# benchmarks compare with: the same loops with a formula that costs nothing.
KERNELS = {
    "relu": ("x",),
    "relu_backward": ("dy", "x"),
    "prelu": ("x", "alpha"),
    "prelu_backward": ("dy", "x", "alpha"),
    # Forward with a mask (a bit for each element, kept for the backward), and backward with the mask in x's place.
    "relu_to_mask": ("x", "mask"),
    "relu_from_mask": ("dy", "mask"),
    "prelu_to_mask": ("x", "alpha", "mask"),
    "prelu_from_mask": ("dy", "alpha", "mask"),
    "copy": ("x",),
    "add": ("dy", "x"),
}
# The function of _kernels.py for each family of kernels, by what they read.
FAMILIES = {
    ("x",): "run_plain",
    ("dy", "x"): "run_plain",
    ("x", "alpha"): "run_with_alpha",
    ("dy", "x", "alpha"): "run_backward",
    ("x", "mask"): "run_to_mask",
    ("x", "alpha", "mask"): "run_to_mask",
    ("dy", "mask"): "run_from_mask",
    ("dy", "alpha", "mask"): "run_from_mask",
}
DALPHA = len(KERNELS)  # the number of dalpha's own formula, which is no kernel by itself
READS_DY = 1 << DALPHA  # bit k: kernel k reads dy
for _number, _reads in enumerate(KERNELS.values()):
    READS_DY |= ("dy" in _reads) << _number


class Operation:
    """One public function: its kernel, what it reads and writes, which forms of alpha it takes.

    Dispatch, the parity tests, the consistency tests and the benchmarks go through OPERATIONS.  An activation that has
    a row there is tested and timed without another line.
    """

    def __init__(
        self, name: str, kernel: str, *writes: str, alpha: str = "", integers: bool = False, masked: str = ""
    ) -> None:
        self.name = name
        self.kernel = kernel
        self.masked = masked  # the kernel that writes a mask, or that reads one in x's place
        self.reads = tuple(operand for operand in KERNELS[kernel] if operand != "alpha")
        self.writes = writes
        self.alpha = alpha  # "" (none), "number" or "array" (every form)
        self.integers = integers  # integers and booleans keep their dtype (else they are computed in float64)
        self.backward = "dy" in self.reads
        self.summed = "dalpha" in writes
        # The functions of reference.py that it is held to.
        both = self.backward and "alpha" in KERNELS[kernel]
        self.reference = f"{kernel}_dx" if both else kernel
        self.dalpha = f"{kernel}_dalpha" if self.summed else ""

    def __repr__(self) -> str:
        return f"<Operation {self.name}>"


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation("relu", "relu", "y", integers=True, masked="relu_to_mask"),
        Operation("relu_backward", "relu_backward", "dx", masked="relu_from_mask"),
        Operation("leaky_relu", "prelu", "y", alpha="number", masked="prelu_to_mask"),
        Operation("leaky_relu_backward", "prelu_backward", "dx", alpha="number", masked="prelu_from_mask"),
        Operation("prelu", "prelu", "y", alpha="array"),
        Operation("prelu_backward", "prelu_backward", "dx", "dalpha", alpha="array"),
    )
}

# ---- types -----------------------------------------------------------------------------------------------------------


class FloatType:
    """A float: the module of its kernels, the type that they compute in (NumPy's name, C's name), and simd.h's macros.

    `infinity`: the bits of -inf as a signed integer, where relu and relu_backward move elements of that size.
    """

    def __init__(self, module: str, computing: str, c: str, *macros: str, infinity: int = 0) -> None:
        self.module = module
        self.computing = computing
        self.c = c
        self.macros = macros
        self.infinity = infinity


# By NumPy's names (bfloat16 is ml_dtypes'), in the order of fastact.h's numbers.
TYPES = {
    "float16": FloatType("f16", "float32", "float", "FASTACT_FLOAT", "FASTACT_HALF", infinity=-0x400),
    "bfloat16": FloatType("bf16", "float32", "float", "FASTACT_FLOAT", "FASTACT_BRAIN", infinity=-0x80),
    "float32": FloatType("f32", "float32", "float", "FASTACT_FLOAT"),
    "float64": FloatType("f64", "float64", "double", "FASTACT_DOUBLE"),
}
# Integers and booleans: NumPy's name and C's, in the order of fastact.h's numbers.
INTEGERS = {"bool": "uint8_t"} | {
    f"{kind}{bits}": f"{kind}{bits}_t" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
}
INTEGER_MODULE = "int"  # _integers.py, compiled for each level: kernels that move whole elements
# The kernels of that module, by kernel and type: C's type of an element, and the bound; what is not above it becomes 0.
MOVING = {("relu", name): (c, 0) for name, c in INTEGERS.items()} | {
    (kernel, name): ("int16_t", kind.infinity)
    for name, kind in TYPES.items()
    for kernel in ("relu", "relu_backward")
    if kind.infinity
}


# The kernels that 16-bit floats do not have: float32's, over the same number of bytes, take the same time.
BOUNDS = ("copy", "add")


def module_of(kernel: str, dtype: str) -> str:
    """The module of a kernel for a type; "" where there is no such kernel."""
    if (kernel, dtype) in MOVING:
        return INTEGER_MODULE
    if dtype not in TYPES or kernel not in KERNELS or (kernel in BOUNDS and TYPES[dtype].computing != dtype):
        return ""
    return TYPES[dtype].module


# Other functions in a level's module of integers: those of blocks.h, which move and convert elements.
MOVERS = {"move": "fa_move", "convert": "fa_convert", "narrow": "fa_narrow"}

# ---- compiled modules ------------------------------------------------------------------------------------------------

# Without one of them there is no Cython variant.
CORE = ("policy", "contexts", "plan", "driver", "entry", "buffers", "front")
BUILD_REPORT = "build.json"  # what could not be built and why, beside the modules

# ---- SIMD levels -----------------------------------------------------------------------------------------------------


class Level:
    """What a level means: the machine, the compiler's flags, the processor's features, and what people call it.

    A level's vector instructions are in _cython/<level>/level.h.
    """

    def __init__(self, machine: str, known_as: str, flags: list[str], features: str = "") -> None:
        self.machine = machine  # "": any
        self.known_as = known_as
        self.flags = flags
        self.features = features.split()  # beside those of the levels before it


# From the least to the most.
LEVELS = {
    "generic": Level("", "no particular instructions", []),
    "v2": Level("x86_64", "SSE4.2", ["-march=x86-64-v2"], "sse3 ssse3 sse4.1 sse4.2 popcnt"),
    "v3": Level("x86_64", "AVX2", ["-march=x86-64-v3"], "avx avx2 fma bmi bmi2"),
    "v4": Level(
        "x86_64",
        "AVX-512",
        ["-march=x86-64-v4", "-mprefer-vector-width=512"],
        "avx512f avx512bw avx512cd avx512dq avx512vl",
    ),
    "neon": Level("aarch64", "NEON", []),  # a part of every such processor
}

# ---- numbers ---------------------------------------------------------------------------------------------------------

LINE = 64  # bytes of a cache line, and the alignment that a streaming store needs
GROUP = 16  # lanes of a sum: elements that are added up side by side
SPAN = 2 * GROUP  # elements that are streamed at a time where there is a mask: their bits are a word
BLOCK = 1024  # elements that are added up in GROUP lanes; 2 to 8 KB of each operand stay in L1
RADIX = 32  # rows whose sums are added one after the other before the result moves up a level
SUM_LEVELS = 3  # of such additions
TILE = 8  # periods of an alpha along the loop that are added up at once
# Cache lines that the kernels of _integers.py make in L1 before they stream them.  Shorter rows are not streamed,
# because the ends of a row are stored as usual.  Streamed rows of 300 bytes took 2 to 3.4 of the time of ordinary
# stores, rows of 1200 bytes 1.0 to 1.7, rows of 4000 bytes 0.2 to 0.8.
STREAM_LINES = 64
WORTH_ALIGNING = 512  # elements from which it pays to begin at a cache line
# Bytes by which elements are fetched ahead, in the caches and where results are streamed: docs/performance.md has the
# figures.
FETCH_AHEAD, FETCH_AHEAD_STREAMED = 1024, 2048
PAIRS = 40  # levels on which sums are added in pairs: 2**40 of them
MAX_LOOPS = 64  # NumPy's own bound on axes
SMALLEST_BLOCK = 1 << 16  # bytes of a result from which its memory is recycled
SWAPPED = 256  # added to a dtype of fastact.h: the bytes of an element are in the other order (from Python only)
MOST_THREADS = 1 << 16  # a bound on threads that is more than any machine has
TILE_ELEMENTS = 32768  # of a cache-sized scratch: 64 to 256 KB, which an L2 cache holds
# Elements: operands with gaps are buffered where their inner loops are shorter (SHORTEST_LOOP with slopes, else
# SHORTEST_ROWS).  Times on crops with rows of 8 to 112 elements, as multiples of the time on a whole array:
#                          as it lies   buffered
#   prelu_backward, 56         3.0         2.5
#   prelu_backward, 112        1.8         2.5
#   prelu, 56                  2.4         1.8
#   relu, 16                   1.8         2.3
#   relu, 8                    2.9         4.5
SHORTEST_LOOP, SHORTEST_ROWS = 64, 8
BUFFER_ELEMENTS = 2048  # of a tile of what is buffered: 4 to 16 KB for each operand, which stay in L1
# Where operands lie in different axis orders: a tile's elements, and its length along an axis that is innermost for
# some operand but not for x.  Whole cache lines are then read along both axes; larger tiles did not help.
BUFFER_TURNED, BUFFER_SIDE = 8192, 32
BUFFER_GROUPS = 64  # groups of tiles: each has sums of its own, so that threads can share the groups
BUFFER_SUMS = 65536  # the most sums of all groups together, unless alpha alone has more

# ---- messages --------------------------------------------------------------------------------------------------------

NO_OPENMP = "no OpenMP runtime with GOMP_parallel is loaded in this process"

# ---- the one argument of a kernel ------------------------------------------------------------------------------------

# struct inner_loop: n elements that lie one after the other in every operand.  S is the storage type, T the computing
# type.  Alpha is constant along rows of m elements, or changes with every element and begins again after m (`along`).
# Each field has eight bytes, so its place in this table is its place in memory.
INNER_LOOP = {
    "y": "S *",  # the result, y or dx; NULL: not needed
    "dy": "const S *",  # NULL where the operation has no such operand
    "x": "const S *",
    # The slopes: one for each row.  Where alpha is along the loop: m slopes, and if m < n the first GROUP again.
    "alpha": "const T *",
    # Where sums are added to: one for each row, or one for each of the m elements.  In the second case whole groups
    # are read and written: from GROUP doubles before `sums` to 2 * GROUP - 1 after its end; the outer ones keep their
    # values.  NULL: no sum is needed.
    "sums": "double *",
    "mask": "uint8_t *",  # a bit for each element, the first one's the lowest; NULL: the operation has none
    "terms": "S *",  # dalpha itself, where each slope has a single term and S is T; NULL: no such thing
    "n": "ptrdiff_t ",
    "m": "ptrdiff_t ",
    # For an elementwise loop over rows, which may begin within a row, so that threads take equal parts:
    "first": "ptrdiff_t ",  # the slope of its first row,
    "channels": "ptrdiff_t ",  # how many slopes there are before the first one follows again (0: enough),
    "offset": "ptrdiff_t ",  # and how many elements of its first row lie before it.
    # For a kernel without alpha: how many further loops there are, and how many elements lie from one to the next.
    "more": "ptrdiff_t ",
    "y_step": "ptrdiff_t ",
    "dy_step": "ptrdiff_t ",
    "x_step": "ptrdiff_t ",
    "along": "bool ",  # whether alpha is along the loop
    "stream": "bool ",  # whether to use streaming stores: the result is larger than the caches and not in place
    "fence": "bool ",  # whether other threads have to see what was streamed: a thread's last loop
}
