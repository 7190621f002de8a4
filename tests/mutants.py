"""Break the package on purpose and see that the tests notice: `python tests/mutants.py [WORD ...]`.

Each mutant is one fault in a copy of the checkout: a formula, a tail, a row's end, a fence, a chunk's boundary, the
order of a sum, a fork.  The copy is built for the baseline and the best level, and the tests run until one fails.

Cython and Numba compile one text, so a fault of that text is in both, and neither can show it in the other.  It is
tried twice: with Cython's kernels alone and with Numba's alone.  A fault of one vocabulary is tried with that variant
alone, so only NumPy's reference, the exact sums and a variant's own other results can notice it.

A mutant that survives is printed and makes the exit status 1.  Words choose the trials that have one in their label
(`python tests/mutants.py numba`); a label is the variant and the mutant's name.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from copies import build, copy_to, test_in

# In the order in which they find most for their time; a team's and a fork's faults are found by what comes last.
KERNEL_TESTS = ("test_parity.py", "test_dalpha.py", "test_guard_pages.py", "test_simd_levels.py", "test_fuzz.py")
TESTS = (
    *KERNEL_TESTS, "test_halves.py", "test_masks.py", "test_layouts.py", "test_errors.py", "test_buffers.py",
    "test_concurrency.py", "test_memory.py",
)  # fmt: skip
SPECIAL = ("test_parity.py::test_special_values_in_every_lane", "test_parity.py::test_special_slopes_in_every_lane")
ALONG_ROWS = (
    "test_dalpha.py::test_the_order_along_rows_spelled_out",
    "test_dalpha.py::test_same_bits_for_every_alignment",
)
ALONG_COLUMNS = (
    "test_dalpha.py::test_the_order_along_columns_spelled_out",
    "test_dalpha.py::test_same_bits_streamed_or_not",
)
SHAPES = ("test_parity.py::test_every_length", "test_parity.py::test_every_shape_and_form_of_alpha")
MISALIGNED = ("test_guard_pages.py::test_every_length_at_every_misalignment",)
# What finds a kind of fault first.
FIRST = {
    "formula": (*SPECIAL, *ALONG_ROWS),
    "guard": MISALIGNED,
    "tail": (*SHAPES[:1], *MISALIGNED),
    "row": SHAPES[1:],
    "period": SHAPES[1:],
    "sum": ALONG_ROWS,
    "running sum": ALONG_COLUMNS,
    "fence": ("test_simd_levels.py",),
    "fence of Numba": ("test_numba_surroundings.py::test_kernels_need_nothing_that_a_c_compiler_made",),
    "words": (*SPECIAL[:1], *ALONG_ROWS),
    "words at an end": (*ALONG_ROWS, *SHAPES[1:], *MISALIGNED),
    "v4": (*ALONG_ROWS[:1], *SPECIAL),
    "generic": (*ALONG_ROWS[:1], *SPECIAL),
    "cache": ("test_numba_surroundings.py::test_the_cache_follows_every_text",),
    "integers": ("test_layouts.py::test_integers_of_every_length_and_in_place",),
    "halves": ("test_halves.py",),
    "mask": ("test_masks.py",),
    "cascade": ("test_dalpha.py",),
    "reduction": ("test_dalpha.py",),
    "pattern": SHAPES[1:],
    "plan": SHAPES[1:],
    "team": ("test_concurrency.py", "test_memory.py"),
    "fork": ("test_concurrency.py", "test_memory.py"),
    "way in": ("test_errors.py", "test_layouts.py", "test_c_interface.py"),
    "array-likes": ("test_parity.py", "test_errors.py"),
    "blocks": ("test_settings.py", "test_thread_sources.py"),
    "interface": ("test_c_interface.py",),
    "layouts": ("test_layouts.py", "test_dalpha.py"),
    "source": ("test_c_interface.py", "test_thread_sources.py"),
    "recycled memory": ("test_buffers.py", "test_memory.py"),
}
HANGS = 300  # seconds
# A fault of the text shows in float32 alone: the copy's setup.py leaves the kernels of other types as they are.
TYPES = "for name, kind in TABLES.TYPES.items():\n"
NOT_ALL = '            if kind.module in os.environ.get("LEFT_OUT", "").split(","):\n                continue\n'

# What both variants compile; what one of them does; what both go through.
KERNELS, INTEGERS, SIMD, V4, GENERIC, WORDS, NUMBA = (
    "_kernels.py", "_integers.py", "_cython/simd.h", "_cython/v4/level.h", "_cython/generic/level.h", "_numba/simd.py",
    "_numba/kernels.py",
)  # fmt: skip
HALVES, MASKS, MASKS_C, TABLES, ENTRY_C = (
    "_cython/halves.h", "_masks.py", "_cython/masks.pxi", "_tables.py", "_cython/entry.pxd",
)  # fmt: skip
DRIVER, POOL, TEAM, FORKS, PLAN, ENTRY, OVERLAP, LAYOUTS, BLOCKS, INTERFACE, BUFFERS, FRONT, CONTEXTS = (
    "_cython/driver.pyx", "_cython/pool.h", "_cython/team.h", "_forks.py", "_plan.py", "_cython/entry.pyx",
    "_cython/overlap.pxi", "_cython/layouts.pxi", "_cython/blocks.h", "_cython/interface.h", "_cython/buffers.pyx",
    "_cython/front.pyx", "_cython/contexts.pyx",
)  # fmt: skip
VARIANTS = {
    **dict.fromkeys((KERNELS, INTEGERS), ("numba", "cython")),
    **dict.fromkeys((WORDS, NUMBA), ("numba",)),
    **dict.fromkeys((SIMD, V4, GENERIC, HALVES), ("cython",)),
}


class Mutant(NamedTuple):
    """One fault: in `file`, `old` (which is there once) becomes `new`."""

    name: str
    file: str
    old: str
    new: str


MUTANTS = [
    # ---- the text of both variants
    Mutant("formula: relu of NaN is 0", KERNELS,
           "return where_le(x, full_like(x, 0), full_like(x, 0), x)",
           "return where_gt(x, full_like(x, 0), x, full_like(x, 0))"),
    Mutant("formula: relu_backward at NaN is 0", KERNELS,
           "return where_le(x, full_like(x, 0), full_like(x, 0), dy)",
           "return where_gt(x, full_like(x, 0), dy, full_like(x, 0))"),
    Mutant("formula: prelu lets 0 through", KERNELS,
           "return where_gt(x, full_like(x, 0), x, mul(alpha, x))",
           "return where_gt(full_like(x, 0), x, mul(alpha, x), x)"),
    Mutant("formula: dx at NaN is dy", KERNELS,
           "return where_gt(x, full_like(x, 0), dy, mul(alpha, dy))",
           "return where_le(x, full_like(x, 0), mul(alpha, dy), dy)"),
    Mutant("formula: the sum leaves x up to 1 in", KERNELS,
           "return add_products_unless_gt(total, x, dy, i, 0)", "return add_products_unless_gt(total, x, dy, i, 1)"),
    Mutant("formula: the sum at a row's end leaves x up to 1 in", KERNELS,
           "return split_products_unless_gt(total, following, x, dy, i, 0, n)",
           "return split_products_unless_gt(total, following, x, dy, i, 1, n)"),
    Mutant("formula: a single term loses the sign of an underflow", KERNELS, "if exact_in_double(x):", "if False:"),
    Mutant("tail: one element short", KERNELS,
           "tail(op, streams, y, dy, x, i, alpha, hi - i)", "tail(op, streams, y, dy, x, i, alpha, hi - i - 1)"),
    Mutant("guard: a whole register is read", KERNELS, "v = load_part(x, i, n)", "v = load(x, i)"),
    Mutant("row: the next slope comes one early", KERNELS,
           "x, i, join_rows(a, rows, row, end - i))", "x, i, join_rows(a, rows, row, end - i - 1))"),
    Mutant("row: a run begins at its row's beginning", KERNELS, "    end = m - rows[2]\n", "    end = m\n"),
    Mutant("period: the next begins a slope late", KERNELS, "            ahead -= m\n", "            ahead -= m - 1\n"),
    Mutant("sum: a shared group is cut one early", KERNELS,
           "prelu_backward_split(total, following, dy, x, i, stop - i)",
           "prelu_backward_split(total, following, dy, x, i, stop - i - 1)"),
    Mutant("sum: lanes follow the address", KERNELS,
           "prelu_backward_part(total, dy, x, ZERO, lane, i)", "prelu_backward_part(total, dy, x, ZERO, ZERO, i)"),
    Mutant("sum: blocks are not kept apart", KERNELS,
           "            push(pending, count, sum_lanes(total))\n            count += 1\n"
           "            total = following\n",
           "            total = following\n"),
    Mutant("sum: blocks are longer", KERNELS, "            block += BLOCK\n", "            block += 2 * BLOCK\n"),
    Mutant("running sum: what crosses the period is lost", KERNELS,
           "            store_wide(sums, phase - m, following)\n", ""),
    Mutant("running sum: the head is not brought back", KERNELS,
           "put_sum(sums, k, sum_at(sums, m + k))", "put_sum(sums, k, sum_at(sums, k))"),
    Mutant("fence: there is none after elementwise work", KERNELS,
           "loop.m, rows)\n    if loop.fence:\n        fence()\n", "loop.m, rows)\n"),
    Mutant("fence: there is none after integers", INTEGERS, "    if loop.fence:\n        fence()\n", ""),
    Mutant("integers: the last is left where there are many", INTEGERS,
           "range(n):\n        y[i]", "range(n if n <= 100 else n - 1):\n        y[i]"),
    Mutant("integers: the last is left in place", INTEGERS,
           "range(n):\n            y[i] = formula(op, dy[i], y[i]",
           "range(n - 1):\n            y[i] = formula(op, dy[i], y[i]"),
    Mutant("integers: the head is left out", INTEGERS, "            run_apart(op, y, dy, x, done, bound)\n", ""),
    Mutant("integers: one line too few is streamed", INTEGERS,
           "stream_lines(at(y, done), buffer, lines)", "stream_lines(at(y, done), buffer, lines - 1)"),
    # ---- the words of Numba
    Mutant("words: greater is true for NaN", WORDS,
           'return builder.fcmp_unordered("<=", u, v)', 'return builder.fcmp_ordered("<=", u, v)'),
    Mutant("words: less or equal is true for NaN", WORDS,
           'builder.select(builder.fcmp_ordered("<=", u, v), a, b)',
           'builder.select(_not_greater(builder, u, v), a, b)'),
    Mutant("words at an end: a masked tail is one too long", WORDS,
           'return builder.icmp_signed("<", ramp', 'return builder.icmp_signed("<=", ramp'),
    Mutant("words at an end: join has its rows exchanged", WORDS,
           "n, kinds[0].lanes), a, b)", "n, kinds[0].lanes), b, a)"),
    Mutant("words at an end: a split group is added to the next row as a whole", WORDS,
           "builder.select(first, following, sums[1])", "sums[1]"),
    Mutant("words: products of doubles are fused", WORDS,
           "exact = dtype is types.float32 and _has_avx512(context)", "exact = _has_avx512(context)"),
    Mutant("words at an end: a part of a group has what lies before it", WORDS,
           "mask = builder.and_(upto, builder.not_(below))", "mask = upto"),
    Mutant("words: lanes are not added by halves", WORDS,
           "for first in (0, half))", "for first in (0, half // 2))"),
    Mutant("words: lanes are added as neighbours", WORDS,
           "range(first, first + half)) for first in (0, half))",
           "range(first, 2 * half, 2)) for first in (0, 1))"),
    Mutant("words at an end: a streamed tail is one short", WORDS,
           "    for k in range(n):\n", "    for k in range(n - 1):\n"),
    Mutant("words at an end: half a line is aligned enough to stream", WORDS,
           "// item_size(p) % line(p)", "// item_size(p) % (line(p) // 2)"),
    Mutant("fence: the word does nothing", WORDS,
           '_call(builder, "llvm.x86.sse.sfence", ir.VoidType(), [])', "pass"),
    Mutant("cache: its key leaves out the vocabulary", NUMBA, '"_numba/simd.py", ', ""),
    Mutant("cache: its key leaves out the text", NUMBA, 'SOURCES = ("_kernels.py", ', "SOURCES = ("),
    Mutant("cache: its key leaves out the numbers", NUMBA, '"_tables.py", ', ""),
    # ---- the words of C
    Mutant("words at an end: a masked tail is one too long", SIMD,
           "FA_STORE_MASKED((p) + (i), v, FA_MASK(n))", "FA_STORE_MASKED((p) + (i), v, FA_MASK((n) + 1))"),
    Mutant("words at an end: join gives the first row one lane more", SIMD,
           "FA_MASK((n) > 0 ? (n) : 0)", "FA_MASK((n) > 0 ? (n) + 1 : 0)"),
    Mutant("words at an end: join without masks has its rows exchanged", SIMD,
           "return fa_where_gt(fa_full(0, n)", "return fa_where_le(fa_full(0, n)"),
    Mutant("words: the fused sum leaves x up to 1 in", SIMD,
           "r32_splat((T)bound));\n    FA_UNROLL", "r32_splat((T)1));\n    FA_UNROLL"),
    Mutant("words at an end: a split group is added to the next row as a whole", SIMD,
           "others = k & ~FA_MASK(n);", "others = k;"),
    Mutant("words at an end: a split group without masks is cut one late", SIMD,
           "r64_where_gt(count, lane, zero.r[r], term.r[r])",
           "r64_where_le(count, r64_add(lane, r64_splat(1)), term.r[r], zero.r[r])"),
    Mutant("words: products of doubles are fused", SIMD,
           "        r64 product = r64_mul(w, fa_load_as_double(v + i + r * W64));\n"
           "        total.r[r] = r64_add(total.r[r], r64_zero_where_gt(w, r64_splat(bound), product));\n",
           "        r64 z = fa_load_as_double(v + i + r * W64), t;\n"
           "        double *a = (double *)&w, *b = (double *)&z, *c = (double *)&total.r[r];\n"
           "        for (int q = 0; q < W64; q++) ((double *)&t)[q] = __builtin_fma(a[q], b[q], c[q]);\n"
           "        total.r[r] = r64_where_gt(w, r64_splat(bound), total.r[r], t);\n"),
    Mutant("words at an end: a part of a group is not put in its place", SIMD, "FA_MASK(n) << lane;", "FA_MASK(n);"),
    Mutant("words at an end: a part of a group without masks is one too long", SIMD,
           "r < lane + n ?", "r <= lane + n ?"),
    Mutant("words: lanes are not added by halves", SIMD, "v.r[i + half]);", "v.r[i + 1]);"),
    Mutant("words at an end: a streamed tail is one short", SIMD,
           "    for (ptrdiff_t k = 0; k < n && k < LANES; k++) {\n", "    for (ptrdiff_t k = 0; k < n - 1; k++) {\n"),
    Mutant("words at an end: half a line is aligned enough to stream", SIMD,
           "/ sizeof(S) % UNIT", "/ sizeof(S) % (UNIT / 2)"),
    Mutant("v4: greater is true for NaN", V4,
           "_mm512_cmp_##S##_mask(u, v, _CMP_NGT_UQ), b)", "_mm512_cmp_##S##_mask(u, v, _CMP_LE_OQ), b)"),
    Mutant("v4: less or equal is true for NaN", V4,
           "_mm512_cmp_##S##_mask(u, v, _CMP_LE_OQ), b, a)", "_mm512_cmp_##S##_mask(u, v, _CMP_NGT_UQ), b, a)"),
    Mutant("v4: a sum of floats leaves NaN out", V4,
           "_mm512_cmp_ps_mask(u, v, _CMP_NGT_UQ)", "_mm512_cmp_ps_mask(u, v, _CMP_LE_OQ)"),
    Mutant("v4: a sum of doubles leaves NaN out", V4,
           "_mm512_cmp_pd_mask(u, v, _CMP_NGT_UQ)", "_mm512_cmp_pd_mask(u, v, _CMP_LE_OQ)"),
    Mutant("v4: the wrong half of a register is added", V4,
           "_mm512_extractf64x4_pd(v, 1)", "_mm512_extractf64x4_pd(v, 0)"),
    Mutant("v4: lanes are added as neighbours", V4,
           "__m256d q = _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1));",
           "__m256d q = _mm256_hadd_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1));"),
    Mutant("fence: the word of v4 does nothing", V4, "{ _mm_sfence(); }", "{}"),
    Mutant("generic: greater is true for NaN", GENERIC, "return u > v ? a : b;", "return u <= v ? b : a;"),
    Mutant("generic: less or equal is true for NaN", GENERIC, "return u <= v ? a : b;", "return u > v ? b : a;"),
    Mutant("generic: a sum leaves NaN out", GENERIC, "return u > v ? 0.0 : a;", "return u <= v ? a : 0.0;"),
    Mutant("generic: a sum has 0 where x is not 0", GENERIC, "return u > v ? 0.0 : a;", "return u >= v ? 0.0 : a;"),
    # ---- 16-bit floats
    Mutant("halves: a subnormal float16 is 0", HALVES, "bits = fa_bits_of((float)rest * 0x1p-24f);", "bits = 0;"),
    Mutant("halves: inf in float16 is a number", HALVES, "(rest >= 0x7c00 ? 224u", "(rest > 0x7c00 ? 224u"),
    Mutant("halves: a float16 is rounded half up", HALVES, "+ 0xfff + (rest >> 13 & 1)", "+ 0x1000"),
    Mutant("halves: a float16 just too small for a normal one", HALVES, "rest < 0x38800000 ?", "rest < 0x38700000 ?"),
    Mutant("halves: a bfloat16 is rounded half up", HALVES, "(bits + 0x7fff + (bits >> 16 & 1)) >> 16",
           "(bits + 0x8000) >> 16"),
    Mutant("halves: a NaN is rounded to bfloat16", HALVES, "> 0x7f800000 ? quiet :", "> 0x7f800000 ? rounded :"),
    Mutant("halves: a sum is rounded twice to float16", HALVES, "fa_to_half(fa_to_odd(v))",
           "fa_to_half((float)v)"),
    Mutant("halves: a sum is rounded twice to bfloat16", HALVES, "fa_to_brain(fa_to_odd(v))",
           "fa_to_brain((float)v)"),
    Mutant("halves: v4 cuts float16", V4, "_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT)",
           "_mm512_cvtps_ph(v, _MM_FROUND_TO_ZERO)"),
    Mutant("halves: v4 rounds a bfloat16 half up", V4,
           "_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff))", "_mm512_add_epi32(bits, _mm512_set1_epi32(0x8000))"),
    Mutant("halves: v4 rounds a NaN to bfloat16", V4, "_mm512_set1_epi32(0x11111133)", "_mm512_set1_epi32(0x11111111)"),
    Mutant("halves: v4 adds the wrong half of a register", V4, "k ? _mm512_extractf32x8_ps(v, 1)",
           "!k ? _mm512_extractf32x8_ps(v, 1)"),
    Mutant("guard: a whole register of 16-bit floats is read", V4,
           "return _mm256_maskz_loadu_epi16(k, p);", "return h16_load(p + 0 * k);"),
    Mutant("halves: the sum of float16 leaves x up to 1 in", SIMD,
           "r32_where_gt(a, r32_splat((T)bound), r32_splat(0),", "r32_where_gt(a, r32_splat((T)1), r32_splat(0),"),
    Mutant("halves: the sum of bfloat16 leaves x up to 1 in", SIMD,
           "r64_zero_where_gt(w, r64_splat(bound), product));\n        }\n#endif",
           "r64_zero_where_gt(w, r64_splat(1), product));\n        }\n#endif"),
    Mutant("halves: a moved NaN with a sign becomes 0", INTEGERS, "return x if x > bound else zero",
           "return x if x > zero else zero"),
    Mutant("halves: dy is moved where x is 0", INTEGERS, "(x > bound) & (x != zero)", "(x > bound) & (x >= x)"),
    Mutant("halves: -inf is let through", TABLES, "infinity=-0x80)", "infinity=-0x81)"),
    Mutant("halves: a dy of another dtype is taken for 16 bits", ENTRY_C, "if dtype < FASTACT_FLOAT32 and",
           "if False and"),
    Mutant("halves: alpha is taken for 16 bits", ENTRY_C,
           "return FASTACT_FLOAT32 if dtype == FASTACT_FLOAT16 or", "return FASTACT_FLOAT32 if"),
    Mutant("halves: what was widened is rounded to the other type", BLOCKS,
           "if (b->dtype == FASTACT_FLOAT16) FA_ROUND", "if (b->dtype != FASTACT_FLOAT16) FA_ROUND"),
    Mutant("halves: Numba rounds half up", WORDS, "builder.add(builder.add(value, half), odd)",
           "builder.add(builder.add(value, half), _numbers(bits, 1))"),
    Mutant("halves: Numba rounds a NaN to bfloat16", WORDS, "builder.select(is_nan, quiet, rounded(bits, 16))",
           "rounded(bits, 16)"),
    Mutant("halves: Numba has no subnormal float16 without F16C", WORDS,
           "builder.select(is_small, builder.bitcast(small, bits.type), normal)", "normal"),
    Mutant("halves: Numba's float16 without F16C, just too large", WORDS, "_numbers(bits, 0x47800000)",
           "_numbers(bits, 0x47900000)"),
    Mutant("halves: Numba's sum of float16 compares dy", WORDS, "mask = _not_greater(builder, factor, bounds)",
           "mask = _not_greater(builder, other, bounds)"),
    # ---- masks
    Mutant("mask: relu keeps no NaN", KERNELS, "return ~bits_le(x, full_like(x, 0))",
           "return bits_gt(x, full_like(x, 0))"),
    Mutant("mask: prelu keeps NaN", KERNELS, "return bits_gt(x, full_like(x, 0))",
           "return ~bits_le(x, full_like(x, 0))"),
    Mutant("mask: bits behind the last element are set", KERNELS, "(kept & ((1 << part) - 1)) << d", "kept << d"),
    Mutant("mask: relu's second vector reads the first one's bits", KERNELS, "relu_from_mask(bits >> d, v)\n",
           "relu_from_mask(bits, v)\n"),
    Mutant("mask: the tail is one short", KERNELS, "to_mask(op, ORDINARY, y, x, i, n - i, alpha)",
           "to_mask(op, ORDINARY, y, x, i, n - i - 1, alpha)"),
    Mutant("mask: the backward's tail is one short", KERNELS, "from_mask(op, ORDINARY, dx, dy, i, part, get",
           "from_mask(op, ORDINARY, dx, dy, i, part - 1, get"),
    Mutant("mask: bits behind a streamed span are dropped", KERNELS, "        bits >>= SPAN\n",
           "        bits = ZERO\n"),
    Mutant("mask: streamed bits begin at their byte", KERNELS, "get_bits(mask, i, 64) >> (i & 7)",
           "get_bits(mask, i, 64)"),
    Mutant("layouts: a tile's terms go where dalpha begins", LAYOUTS, "load(&own.write_terms, sums_at,",
           "load(&own.write_terms, t.dalpha.operand.data,"),
    Mutant("mask: elements that were let through are 0", KERNELS, "where_bits(kept, dy, full_like(dy, 0))",
           "where_bits(kept, full_like(dy, 0), dy)"),
    Mutant("mask: v4, bits of NaN are set for greater", V4, "_mask(u, v, _CMP_GT_OQ); }",
           "_mask(u, v, _CMP_NLE_UQ); }"),
    Mutant("mask: v4, bits of NaN are set for less or equal", V4, "_mask(u, v, _CMP_LE_OQ); }",
           "_mask(u, v, _CMP_NGT_UQ); }"),
    Mutant("mask: v4, doubles are exchanged", V4, "_mm512_mask_mov_pd(b, (__mmask8)k, a)",
           "_mm512_mask_mov_pd(a, (__mmask8)k, b)"),
    Mutant("mask: generic, bits of NaN are set for less or equal", GENERIC, "bits_le(R u, R v) { return u <= v; }",
           "bits_le(R u, R v) { return !(u > v); }"),
    Mutant("mask: a byte behind the last one is read", SIMD, "k < n; k += 8) bits |=", "k < n + 8; k += 8) bits |="),
    Mutant("mask: a byte behind the last one is written", SIMD, "k < n; k += 8) mask[k / 8]",
           "k < n + 8; k += 8) mask[k / 8]"),
    Mutant("mask: bits of NaN are set for greater", WORDS, '_bits(builder, builder.fcmp_ordered(">", u, v))',
           '_bits(builder, builder.fcmp_unordered(">", u, v))'),
    Mutant("mask: bits choose the wrong side", WORDS, "return builder.select(mask, a, b)\n\n\n@inlined\ndef get_bits",
           "return builder.select(mask, b, a)\n\n\n@inlined\ndef get_bits"),
    Mutant("mask: Numba writes a byte too many", WORDS, "range((n + 7) >> 3):\n        put_sum",
           "range((n + 15) >> 3):\n        put_sum"),
    Mutant("mask: a thread begins within a cache line", MASKS_C, "index // count & -(8 * LINE), n",
           "index // count & -4, n"),
    Mutant("mask: what is not aligned is streamed", MASKS_C, " \\\n        and <intptr_t>y.data % m.itemsize == 0", ""),
    Mutant("mask: a piece goes beyond its row", MASKS_C, "block.n = min(n, m.last - k)", "block.n = n"),
    Mutant("mask: a slope of float32 is read as double", MASKS_C,
           "<void*>&alpha if m.dtype == FASTACT_FLOAT64 else &narrow", "<void*>&alpha"),
    Mutant("mask: integers have a mask only", MASKS_C,
           "        return enter(RELU, NULL, y, NULL, NULL, x, NULL, options, True)\n", "        return FASTACT_OK\n"),
    Mutant("interface: a mask with gaps is taken", MASKS_C, "mask.strides[0] != 1 and", "False and"),
    Mutant("interface: a mask may be where y is", MASKS_C, "meet(mask, x) or meet(mask, y)", "meet(mask, x)"),
    Mutant("mask: one of another length is taken", MASKS, "if mask.shape != (mask_length(dy.size),):",
           "if mask.ndim != 1:"),
    Mutant("mask: dx may be written over it", MASKS,
           '        check_overlap(dx, "out", mask, f"mask of shape {mask.shape}", in_place=False)\n', ""),
    Mutant("mask: NumPy's bits are in the other order", MASKS, 'np.packbits(kept, bitorder="little")',
           "np.packbits(kept)"),
    Mutant("mask: one with gaps is not written", MASKS, "        mask[...] = bits\n", "        pass\n"),
    # ---- the driver
    Mutant("fence: the last run of a share is not told", DRIVER,
           "loop.fence = last and row >= stop", "loop.fence = False"),
    Mutant("chunk: shares leave one out", DRIVER,
           "for chunk in range(plan.chunks * thread // threads, stop):",
           "for chunk in range((plan.chunks * thread + threads - 1) // threads + (thread > 0), stop):"),
    Mutant("chunk: an equal part ends a group early", DRIVER,
           "        return work.plan.elements\n", "        return work.plan.elements - (threads > 1)\n"),
    Mutant("cascade: a level is skipped", DRIVER,
           "            add_to(acc + lanes, acc, lanes)\n            left = radix\n", "            left = radix\n"),
    Mutant("cascade: its length follows the threads", DRIVER,
           "radix = 2 * RADIX if plan.along else RADIX", "radix = 2 * RADIX if plan.along or last else RADIX"),
    Mutant("reduction: the last columns are left", DRIVER,
           "width = <int>min(WIDTH, count - first)", "width = <int>min(WIDTH - 1, count - first)"),
    Mutant("launch: a sum is rounded to less than float", DRIVER,
           "= <float>sums[k]", "= <float>(sums[k] + sums[k] * 65536 * 8192 - sums[k] * 65536 * 8192)"),
    Mutant("launch: one sum is not handed out", DRIVER,
           "        for k in range(plan.alphas):\n", "        for k in range(plan.alphas - (plan.alphas > 1)):\n"),
    Mutant("launch: a call in place is streamed", DRIVER,
           "and apart(call.y, plan.y_low, plan.y_high, call.x, plan.x_low, plan.x_high)", "and True"),
    Mutant("launch: what starts within an element is streamed", DRIVER, " and call.y % plan.itemsize == 0 ", " "),
    Mutant("pattern: it ends with the period", DRIVER,
           "end = target + plan.pattern * plan.slope_size", "end = target + plan.m * plan.slope_size"),
    Mutant("pattern: every plane has the first one's slopes", DRIVER,
           "work.call.alpha + plane * plan.channels * plan.slope_size", "work.call.alpha"),
    Mutant("pattern: doubles are repeated as the first slope", DRIVER,
           "(<const double*>slopes)[k]", "(<const double*>slopes)[0]"),
    Mutant("pattern: it is where the sums are", DRIVER,
           "pattern + (pattern_doubles(plan) if work.pattern else 0)", "pattern"),
    # ---- the plan
    Mutant("plan: the last segment is left", PLAN,
           "segments = (m + segment - 1) // segment\n    wide", "segments = m // segment\n    wide"),
    Mutant("plan: copies do not divide the rows", PLAN,
           "while size % copies and row_loops(plan, count - 1):", "while False:"),
    Mutant("plan: the last copies are as long as the others", PLAN,
           "plan.joined_elements = elements\n", "plan.joined_elements = size * period\n"),
    Mutant("plan: a group is missing", PLAN,
           "plan.groups = (plan.rows + plan.chunk_rows - 1) // plan.chunk_rows",
           "plan.groups = max(1, plan.rows // plan.chunk_rows)"),
    Mutant("plan: the last strip is left", PLAN,
           "plan.strips = (plan.columns + plan.chunk_columns - 1) // plan.chunk_columns",
           "plan.strips = max(1, plan.columns // plan.chunk_columns)"),
    Mutant("plan: loops are merged over a change of alpha", PLAN,
           "        merged = merged and outer.alpha", "        merged = merged or outer.alpha"),
    Mutant("plan: planes are not sorted to the front", PLAN, "while k > plan.plane_loops:", "while False:"),
    # ---- threads and forks
    Mutant("team: callers do not share the processors", POOL, "if (bound > FA_SLOTS) bound", "bound"),
    Mutant("team: a thread that was not started is given work", POOL,
           "return fa_start_thread(fa_help, slot, FA_STACK);", "return fa_start_thread(fa_help, slot, FA_STACK) | 1;"),
    Mutant("team: two callers have the same helper", POOL,
           "if (!fa_change(&fa_pool[i], fresh ? FA_EMPTY : FA_IDLE, FA_TAKEN)) continue;",
           "if (fresh ? !fa_change(&fa_pool[i], FA_EMPTY, FA_TAKEN) : fa_pool[i].state == FA_EMPTY) continue;"),
    Mutant("team: nobody waits for the helpers", POOL, "!= FA_TAKEN) fa_await(slot, FA_DONE);", "!= FA_TAKEN) ;"),
    Mutant("team: a helper rounds as whoever started it", POOL,
           "if (slot->mode != fa_get_mode()) fa_set_mode(slot->mode);", ""),
    Mutant("team: a sleeper is not woken", POOL,
           "if (__atomic_load_n(&slot->sleepers, __ATOMIC_SEQ_CST)) {", "if (0) {"),
    Mutant("team: every small call wakes", POOL, "if (!worth) continue;", ""),
    Mutant("team: no series of small calls wakes", POOL, "if (worth < 0) worth = fa_call_in_series();", "worth = 0;"),
    Mutant("team: the caller takes a range that was begun", POOL,
           "if (fa_change(&fa_pool[team->slot[i]], FA_WORK, FA_TAKEN)) run", "run"),
    Mutant("fork: nobody waits for a compilation", FORKS, "before=forks.before, ", ""),
    Mutant("fork: a child believes in its parent's threads", POOL, "NULL, NULL, fa_in_child", "NULL, NULL, NULL"),
    # ---- the way in and the C interface
    Mutant("way in: lengths are not compared", ENTRY,
           "        if a.shape[d] != b.shape[d]:\n            return False\n    return", "        pass\n    return"),
    Mutant("way in: overlap is not seen", ENTRY, "(y.data != x.data and touch(y, bytes, x, bytes))", "False"),
    Mutant("array-likes: items of a list are not looked at", FRONT,
           "elif not is_plain(item, depth + 1):", "elif depth and not is_plain(item, depth + 1):"),
    Mutant("array-likes: a mask of a subclass's own", FRONT, 'if hasattr(value, "mask"):', "if False:"),
    Mutant("array-likes: dalpha gets a list's dtype", FRONT, "if summed and not weak and", "if summed and"),
    Mutant("blocks: what is right for one is right for all", CONTEXTS,
           "settled.get(value) is self.variable", "value in settled"),
    Mutant("blocks: an object serves twice", CONTEXTS, "self.token = False", "self.token = None"),
    Mutant("blocks: the bound does not reach a call", FRONT, "get_value(context_threads)", "None"),
    Mutant("blocks: the backend does not reach a call", FRONT, "get_value(context_backend)", "None"),
    Mutant("way in: a plan serves whatever the axis", ENTRY,
           "slot.itemsize == itemsize and slot.axis == axis", "slot.itemsize == itemsize"),
    Mutant("interface: memory is not looked at", ENTRY,
           "    if apart:\n        return FASTACT_OK\n", "    return FASTACT_OK\n"),
    Mutant("interface: a result may meet itself", OVERLAP,
           "    if a.strides == NULL or not size_of(a):\n        return", "    return"),
    Mutant("interface: tiles are written before all memory is there", DRIVER,
           "if needed + DOUBLES <= call.scratch_doubles:", "if False:"),
    Mutant("interface: a uint64 is computed as a uint32", ENTRY,
           "kernel_dtype(kernel, found.dtype, dy)]",
           "kernel_dtype(kernel, found.dtype - (found.dtype == FASTACT_UINT64), dy)]"),
    Mutant("interface: a message goes beyond its buffer", INTERFACE,
           "options->message_size, format", "options->message_size + 1, format"),
    Mutant("interface: the caller leaves before the others are done", INTERFACE,
           "while (__atomic_load_n(&job->done, __ATOMIC_ACQUIRE) < n) fa_pause();", ";"),
    Mutant("interface: a task that is late computes again", INTERFACE,
           "&job->next, 1, __ATOMIC_RELAXED)) < job->n) {", "&job->next, 1, __ATOMIC_RELAXED)) <= job->n) {"),
    Mutant("layouts: four by four, two columns exchanged", BLOCKS,
           "v[2] = FA_MIX(AB, CD, 0, 1, 4, 5), v[3] = FA_MIX(AB, CD, 2, 3, 6, 7)",
           "v[3] = FA_MIX(AB, CD, 0, 1, 4, 5), v[2] = FA_MIX(AB, CD, 2, 3, 6, 7)"),
    Mutant("layouts: two by two, a row twice", BLOCKS, "v = FA_MIX(u, v, 1, 3)", "v = FA_MIX(u, v, 0, 2)"),
    Mutant("layouts: a square beyond the last row", BLOCKS, "r < rows && r < FA_SIDE", "r < FA_SIDE"),
    Mutant("layouts: bytes stay swapped", BLOCKS, "if (b->dtype & SWAPPED)\n", "if (0)\n"),
    Mutant("layouts: rows go forward only", BLOCKS, "FA_MOVE_ROWS(T, size, -size, change)",
           "FA_MOVE_ROWS(T, size, size, change)"),
    Mutant("layouts: the last tile is as large as the others", LAYOUTS,
           "size = min(t.extent[d], t.shape[d] - first)", "size = t.extent[d]"),
    Mutant("layouts: a tile keeps the plan of another extent", LAYOUTS,
           "own.extent[d], changed = size, True", "own.extent[d] = size"),
    Mutant("layouts: the sums of all tiles go to the first slopes", LAYOUTS,
           "            sums_at += first * (t.dalpha.strides[d] if t.single else t.sums_strides[d])",
           "            pass"),
    Mutant("layouts: a constant dy is walked along", DRIVER, "            loop.dy, loop.dy_step = same, 0\n",
           "            loop.dy = same\n"),
    Mutant("layouts: the next loops begin where the first one does", KERNELS,
           "y = at(y, row * loop.y_step)", "y = at(y, 0)"),
    Mutant("layouts: integers take one loop less", INTEGERS, "while row <= loop.more:", "while row < loop.more:"),
    Mutant("layouts: too many rows until the next loop begins", DRIVER,
           "following = around.size - 1 - row % around.size", "following = around.size - 1"),
    Mutant("source: a host keeps the caller's floating-point mode", TEAM,
           "    if (before != r->mode) fa_set_mode(before);\n", ""),
    Mutant("source: a host computes in its own mode", TEAM, "    if (before != r->mode) fa_set_mode(r->mode);\n", ""),
    Mutant("source: a child waits for its parent's runtime", TEAM, "if (!number || fa_is_child)", "if (!number)"),
    Mutant("source: a runtime that gives fewer threads", TEAM,
           "i < r->count; i += threads)", "i < r->count; i += r->count)"),
    Mutant("source: a team within a parallel region", DRIVER, "    elif not fa_openmp_team():", "    else:"),
    Mutant("recycled memory: a block is given out twice", BUFFERS,
           "        unlink(b)\n        b.used = taken(b, size)\n", "        b.used = taken(b, size)\n"),
    Mutant("recycled memory: kept when memory is short", BUFFERS,
           "        release(0)\n        b = map_block(size)\n", ""),
]  # fmt: skip


class Trial(NamedTuple):
    """A mutant with one compiled variant alone, or ("") with all there are."""

    mutant: Mutant
    variant: str

    def __str__(self):
        return f"{self.variant or 'all'}: {self.mutant.name}"


TRIALS = [Trial(mutant, variant) for mutant in MUTANTS for variant in VARIANTS.get(mutant.file, ("",))]


def first_failure(folder: Path, variant: str = "", name: str = "") -> str:
    """The first test that fails under the mutant of that name, or "" where all pass."""
    only = {"FASTACT_TEST_BACKENDS": variant} if variant else {}
    kind = name.partition(":")[0]
    if (kind, variant) == ("fence", "numba"):
        kind = "fence of Numba"
    # One run after the other: pytest would run a file's tests in the file's order, whichever was asked for first.
    for tests in (FIRST.get(kind), KERNEL_TESTS if variant else TESTS):
        if not tests:
            continue
        # Conversions without F16C are tested in the full form only.
        full = {"FASTACT_FULL_TESTS": "1"} if tests is FIRST["halves"] else {}
        try:
            done = test_in(folder, "-x", *(f"tests/{test}" for test in tests), timeout=HANGS, **only, **full)
        except subprocess.TimeoutExpired:
            return "a test hung"
        if done.returncode:
            lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
            return lines[0].replace("tests/", "") if lines else f"the process died ({done.returncode})"
    return ""


def main(words: list[str]) -> int:
    """Try the mutants; 1 if one survives."""
    chosen = [trial for trial in TRIALS if not words or any(word in str(trial) for word in words)]
    chosen.sort(
        key=lambda trial: trial.variant != "numba"
    )  # which need no build; the faults of the text come before the words'
    survivors = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = copy_to(Path(temporary) / "copy", ("generic", "v4"))
        setup = folder / "setup.py"
        assert TYPES in setup.read_text()
        # A third of the time, and the same results.
        setup.write_text(setup.read_text().replace('"-O3"', '"-O1"').replace(TYPES, TYPES + NOT_ALL))
        for mutant, _ in chosen:  # before an hour is spent
            count = (folder / "fastact" / mutant.file).read_text().count(mutant.old)
            if count != 1:
                raise SystemExit(f"{mutant.name}: the text to change is there {count} times")
        build(folder)
        for variant in dict.fromkeys(trial.variant for trial in chosen):
            if not words and (failure := first_failure(folder, variant)):
                raise SystemExit(f"the tests fail without a fault: {failure}")
        for trial in chosen:
            mutant, variant = trial
            file, start = folder / "fastact" / mutant.file, time.monotonic()
            text = file.read_text()
            file.write_text(text.replace(mutant.old, mutant.new))
            try:
                # Numba compiles by itself: the hash of its texts is a part of its cache's key.
                if variant != "numba":
                    build(folder, LEFT_OUT="f16,bf16,f64" if mutant.file in (KERNELS, INTEGERS) else "")
                failure = first_failure(folder, variant, mutant.name)
            finally:
                file.write_text(text)
            if not failure:
                survivors.append(trial)
            verdict = "killed  " if failure else "SURVIVED"
            print(f"{verdict} {trial} ({time.monotonic() - start:.0f} s) {failure[:110]}", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} killed", *survivors, sep="\n  survived: ")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
