/* The vector vocabulary of _kernels.py in C: what _numba/simd.py is in LLVM.
 *
 * `vec` is one register of LANES elements of the computing type T, for elementwise work; elements lie in memory in the
 * storage type S.  `wide` is a group of 16 doubles whatever the register, so that sums have one order at every level.
 * The build picks the types (-DFASTACT_FLOAT or -DFASTACT_DOUBLE, and for 16-bit storage -DFASTACT_HALF or
 * -DFASTACT_BRAIN) and the level: its folder, with level.h, is on the include path.  A level is a dozen words on one
 * register, r32 (floats) or r64 (doubles); everything here is common to all levels.  Words take a pointer and an index,
 * as _kernels.py uses them.
 * (A vec of 16 elements was tried first: GCC 12 passes such structs through the stack, 10 times slower.)
 */
#ifndef FASTACT_SIMD_H
#define FASTACT_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "exact.h"
#include "tables.h"

#if defined(__GNUC__) || defined(__clang__)
#define FA_UNROLL _Pragma("GCC unroll 16")
#define fa_alloca __builtin_alloca
#else
#include <malloc.h>
#define FA_UNROLL
#define fa_alloca _alloca
#endif

/* A level's words, for R in r32, r64 and its element E.  Compares are false for NaN and raise nothing.
 *   R_load(p)  R_store(p, v)  R_stream(p, v)     a register; streamed past the caches, at an aligned address
 *   R_splat(s)  R_mul(a, b)  R_add(a, b)
 *   R_where_gt(u, v, a, b)  R_where_le(...)      u > v ? a : b;  u <= v ? a : b
 *   R_bits_gt(u, v)  R_bits_le(u, v)             the lanes where that holds, as the lowest bits of an integer
 *   R_where_bits(k, a, b)                        bit ? a : b
 *   r64_zero_where_gt(u, v, a)                   u > v ? 0 : a
 *   r64_widen(p)                                 W64 floats as doubles
 *   r64_part(v, k)                               the k-th W64 floats of a register, as doubles
 *   r64_sum(v)                                   the lanes added by halves
 *   fa_fence()                                   orders streamed stores before what follows
 * and where the level has masks (FA_MASK(n): the first n <= 16 lanes; FA_ANY_MASK its type):
 *   R_load_masked(p, k)  R_store_masked(p, v, k)  R_select(k, a, b)
 * and where it has instructions for 16-bit floats (FA_HALVES), for h16, the W32 of them that make an r32:
 *   h16_load(p)  h16_store(p, h)  h16_stream(p, h)  h16_load_masked(p, k)  h16_store_masked(p, h, k)
 *   r32_of_half(h)  r32_to_half(v)  r32_of_brain(h)  r32_to_brain(v)     float16 and bfloat16                 */
#include "level.h"
#include "halves.h"

#ifdef FASTACT_FLOAT
typedef float T;
typedef r32 vec;
enum { LANES = W32 };
#define FA_VEC(NAME) r32_##NAME
#define fa_load_as_double(p) r64_widen(p)
#else
typedef double T;
typedef r64 vec;
enum { LANES = W64 };
#define FA_VEC(NAME) r64_##NAME
#define fa_load_as_double(p) r64_load(p)
#endif

#if defined(FASTACT_HALF)
typedef uint16_t S;
#define FA_OF_STORED r32_of_half
#define FA_TO_STORED r32_to_half
#elif defined(FASTACT_BRAIN)
typedef uint16_t S;
#define FA_OF_STORED r32_of_brain
#define FA_TO_STORED r32_to_brain
#else
typedef T S;
#endif
/* The elements between two addresses that can be streamed to: a cache line, but half a line of 16-bit floats.  A vector
 * has to begin at such an address, and a group of a sum has no more elements. */
enum { UNIT = sizeof(S) == 2 ? GROUP : LINE / sizeof(S) };

/* ---- memory -------------------------------------------------------------------------------------- */

static const ptrdiff_t ZERO = 0;
enum { NO_DX, STORED, STREAMED }; /* what is done about dx in the loop of a sum */
enum { ORDINARY, STREAMING };     /* stores */
enum { ROWS, ALONG };             /* how alpha lies */

#define fa_at(p, i) ((p) + (i)) /* p must be a variable: the fields of struct inner_loop are void * in C */
#define fa_get(p, i) ((p)[i])
#define fa_put(p, i, value) ((p)[i] = (value))
#define fa_wanted(p) ((p) != NULL)
#define fa_lanes(p) ((ptrdiff_t)LANES)
#define fa_line(p) ((ptrdiff_t)UNIT)
#define fa_item_size(p) ((ptrdiff_t)sizeof(S))
/* How many elements p[i] lies after the last address that can be streamed to. */
#define fa_unaligned(p, i) ((ptrdiff_t)((uintptr_t)((p) + (i)) / sizeof(S) % UNIT))
#define fa_scratch() ((double *)fa_alloca(PAIRS * sizeof(double)))
#define fa_fetch_distance(p, streams) ((ptrdiff_t)((streams ? FETCH_AHEAD_STREAMED : FETCH_AHEAD) / sizeof(S)))

/* A hint that the line of p[i] will be used soon. */
#if defined(__GNUC__) || defined(__clang__)
#define fa_fetch(p, i) __builtin_prefetch((p) + (i))
#else
#define fa_fetch(p, i) ((void)0)
#endif

/* ---- vec: one register of T ---------------------------------------------------------------------- */

#ifdef FA_OF_STORED
#define fa_load(p, i) FA_OF_STORED(h16_load((p) + (i)))
#define fa_store(p, i, v) h16_store((p) + (i), FA_TO_STORED(v))
#define fa_stream(p, i, v) h16_stream((p) + (i), FA_TO_STORED(v))
#else
#define fa_load(p, i) FA_VEC(load)((p) + (i))
#define fa_store(p, i, v) FA_VEC(store)((p) + (i), v)
#define fa_stream(p, i, v) FA_VEC(stream)((p) + (i), v)
#endif
#define fa_load_slopes(p, i) FA_VEC(load)((p) + (i))
#define fa_load_slope(p, i) FA_VEC(splat)((p)[i])
#define fa_full(p, number) FA_VEC(splat)((T)(number))
#define fa_mul FA_VEC(mul)
#define fa_add FA_VEC(add)
#define fa_where_gt FA_VEC(where_gt)
#define fa_where_le FA_VEC(where_le)
#define fa_exact_in_double(v) (sizeof(T) == sizeof(float))

#define fa_bits_gt FA_VEC(bits_gt)
#define fa_bits_le FA_VEC(bits_le)
#define fa_where_bits FA_VEC(where_bits)

/* n <= 64 bits of a mask, from the lowest bit of element i's byte on.  Bits after the n-th may have any value.  For a
 * constant n a compiler merges the byte stores below into one; GCC 12 did not merge eight byte loads, hence memcpy. */
FA_INLINE ptrdiff_t fa_get_bits(const uint8_t *mask, ptrdiff_t i, ptrdiff_t n)
{
    uint64_t bits = 0;
    mask += (size_t)i / 8;
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (n == 64) {
        memcpy(&bits, mask, sizeof bits);
        return (ptrdiff_t)bits;
    }
#endif
    for (ptrdiff_t k = 0; k < n; k += 8) bits |= (uint64_t)*mask++ << k;
    return (ptrdiff_t)bits;
}
FA_INLINE void fa_put_bits(uint8_t *mask, ptrdiff_t i, ptrdiff_t bits, ptrdiff_t n)
{
    mask += (size_t)i / 8;
    for (ptrdiff_t k = 0; k < n; k += 8) mask[k / 8] = (uint8_t)((uint64_t)bits >> k);
}

/* fa_load_part, fa_load_slopes_part: the first n < LANES elements, +0.0 in the other lanes; nothing is touched past
 * p[i + n - 1].  fa_store_part stores as many.  fa_join: lanes below n from a, the others from b; n may be below 0. */
#ifdef FA_MASK
#ifdef FA_OF_STORED
#define FA_LOAD_MASKED(p, k) FA_OF_STORED(h16_load_masked(p, k))
#define FA_STORE_MASKED(p, v, k) h16_store_masked(p, FA_TO_STORED(v), k)
#else
#define FA_LOAD_MASKED FA_VEC(load_masked)
#define FA_STORE_MASKED FA_VEC(store_masked)
#endif
#define fa_load_part(p, i, n) FA_LOAD_MASKED((p) + (i), FA_MASK(n))
#define fa_store_part(p, i, v, n) FA_STORE_MASKED((p) + (i), v, FA_MASK(n))
#define fa_load_slopes_part(p, i, n) FA_VEC(load_masked)((p) + (i), FA_MASK(n))
#define fa_join(a, b, n) FA_VEC(select)(FA_MASK((n) > 0 ? (n) : 0), a, b)
#else
FA_INLINE vec fa_load_part(const S *p, ptrdiff_t i, ptrdiff_t n)
{
    S t[LANES] = {0};
    for (ptrdiff_t k = 0; k < n; k++) t[k] = p[i + k];
    return fa_load(t, 0);
}
FA_INLINE void fa_store_part(S *p, ptrdiff_t i, vec v, ptrdiff_t n)
{
    S t[LANES];
    fa_store(t, 0, v);
    for (ptrdiff_t k = 0; k < n && k < LANES; k++) p[i + k] = t[k];
}
FA_INLINE vec fa_load_slopes_part(const T *p, ptrdiff_t i, ptrdiff_t n)
{
    T t[LANES] = {0};
    for (ptrdiff_t k = 0; k < n; k++) t[k] = p[i + k];
    return fa_load_slopes(t, 0);
}
static const T fa_ramp[GROUP] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
FA_INLINE vec fa_join(vec a, vec b, ptrdiff_t n)
{ return fa_where_gt(fa_full(0, n), fa_load_slopes(fa_ramp, 0), a, b); }
#endif

/* fa_store_part past the caches, element by element.  An ordinary store between streaming ones costs over a microsecond
 * on a busy bus; these are merged with their neighbours in a write-combining buffer.  16 bits cannot be streamed. */
FA_INLINE void fa_stream_part(S *p, ptrdiff_t i, vec v, ptrdiff_t n)
{
#if !defined(FA_STREAM_INTEGER) || defined(FA_OF_STORED)
    fa_store_part(p, i, v, n);
#else
    S t[LANES];
    fa_store(t, 0, v);
    for (ptrdiff_t k = 0; k < n && k < LANES; k++) {
#ifdef FASTACT_FLOAT
        int32_t bits;
        memcpy(&bits, t + k, sizeof bits);
        _mm_stream_si32((int *)(p + i + k), bits);
#else
        int64_t bits;
        memcpy(&bits, t + k, sizeof bits);
        _mm_stream_si64((long long *)(p + i + k), bits);
#endif
    }
#endif
}

/* ---- wide: 16 doubles ---------------------------------------------------------------------------- */

_Static_assert(GROUP == 16, "fa_ramp and a mask of 16 lanes");
enum { WIDE = GROUP / W64 }; /* registers in a wide */
typedef struct { r64 r[WIDE]; } wide;
#define fa_registers() (WIDE <= 2 ? 4 : 1) /* how many wides stay in registers throughout a loop */

#define FA_WIDE(NAME, PARAMETERS, EXPRESSION)                                                                  \
    FA_INLINE wide NAME PARAMETERS                                                                             \
    {                                                                                                          \
        wide v;                                                                                                \
        FA_UNROLL for (int k = 0; k < WIDE; k++) v.r[k] = EXPRESSION;                                          \
        return v;                                                                                              \
    }
FA_WIDE(fa_load_wide, (const double *p, ptrdiff_t i), r64_load(p + i + k * W64))
FA_WIDE(fa_zeros, (void), r64_splat(0))

FA_INLINE void fa_store_wide(double *p, ptrdiff_t i, wide v)
{
    FA_UNROLL for (int k = 0; k < WIDE; k++) r64_store(p + i + k * W64, v.r[k]);
}

/* total + (u > bound ? 0 : u * v) for 16 elements, in doubles.  The elements are widened by converting loads, which
 * need no shuffles, as a conversion between registers does.  Adding +0.0 does not change a lane, because no lane of a
 * sum is -0.0. */
FA_INLINE wide fa_add_products(wide total, const S *u, const S *v, ptrdiff_t i, double bound)
{
#if defined(FA_OF_STORED)
    enum { PARTS = W32 / W64 };
    FA_UNROLL for (int r = 0; r < WIDE; r += PARTS) {
        vec a = fa_load(u, i + r * W64), b = fa_load(v, i + r * W64);
#ifdef FASTACT_HALF
        /* The product of two float16 numbers is exact in float, so only products are converted to double. */
        vec term = r32_where_gt(a, r32_splat((T)bound), r32_splat(0), r32_mul(a, b));
        FA_UNROLL for (int k = 0; k < PARTS; k++) total.r[r + k] = r64_add(total.r[r + k], r64_part(term, k));
#else
        FA_UNROLL for (int k = 0; k < PARTS; k++) {
            r64 w = r64_part(a, k), product = r64_mul(w, r64_part(b, k));
            total.r[r + k] = r64_add(total.r[r + k], r64_zero_where_gt(w, r64_splat(bound), product));
        }
#endif
    }
#elif defined(FASTACT_FLOAT) && defined(FA_MASK)
    /* A converting load keeps both vector ports busy here, so the rest has to be short: one comparison of floats,
     * and fused multiply-adds under its mask.  Fusing changes no bit, because the product is exact. */
    FA_ANY_MASK k = FA_NOT_GREATER(r32_load(u + i), r32_splat((T)bound));
    FA_UNROLL for (int r = 0; r < WIDE; r++)
        total.r[r] = r64_add_product_masked(r64_widen(u + i + r * W64), r64_widen(v + i + r * W64), total.r[r],
                                            k >> r * W64);
#else
    FA_UNROLL for (int r = 0; r < WIDE; r++) {
        r64 w = fa_load_as_double(u + i + r * W64);
        r64 product = r64_mul(w, fa_load_as_double(v + i + r * W64));
        total.r[r] = r64_add(total.r[r], r64_zero_where_gt(w, r64_splat(bound), product));
    }
#endif
    return total;
}

/* The same, split: lanes below n are added to *total, the others to *following. */
FA_INLINE void fa_split_products(wide *total, wide *following, const S *u, const S *v, ptrdiff_t i, double bound,
                                 ptrdiff_t n)
{
#if defined(FASTACT_FLOAT) && defined(FA_MASK) && !defined(FA_OF_STORED)
    FA_ANY_MASK k = FA_NOT_GREATER(r32_load(u + i), r32_splat((T)bound));
    FA_ANY_MASK first = k & FA_MASK(n), others = k & ~FA_MASK(n);
    FA_UNROLL for (int r = 0; r < WIDE; r++) {
        r64 a = r64_widen(u + i + r * W64), b = r64_widen(v + i + r * W64);
        total->r[r] = r64_add_product_masked(a, b, total->r[r], first >> r * W64);
        following->r[r] = r64_add_product_masked(a, b, following->r[r], others >> r * W64);
    }
#else
    static const double ramp[GROUP] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    wide zero = fa_zeros(), term = fa_add_products(zero, u, v, i, bound);
    FA_UNROLL for (int r = 0; r < WIDE; r++) {
        r64 lane = r64_load(ramp + r * W64), count = r64_splat((double)n);
        total->r[r] = r64_add(total->r[r], r64_where_gt(count, lane, term.r[r], zero.r[r]));
        following->r[r] = r64_add(following->r[r], r64_where_gt(count, lane, zero.r[r], term.r[r]));
    }
#endif
}

/* Fills a group: the n elements of p from i on go to its lanes from `lane` on, and +0.0 to the others. */
FA_INLINE void fa_place(S *group, const S *p, ptrdiff_t i, ptrdiff_t lane, ptrdiff_t n)
{
#if defined(FA_MASK) && !defined(FA_OF_STORED)
    FA_ANY_MASK k = FA_MASK(n) << lane;
    FA_UNROLL for (int r = 0; r < GROUP; r += LANES) fa_store(group, r, FA_VEC(load_masked)(p + i - lane + r, k >> r));
#else
    for (ptrdiff_t r = 0; r < GROUP; r++) group[r] = r >= lane && r < lane + n ? p[i + r - lane] : 0;
#endif
}

/* fa_add_products for n < GROUP elements, which go to the lanes from `lane` on. */
FA_INLINE wide fa_add_products_part(wide total, const S *u, const S *v, ptrdiff_t i, double bound, ptrdiff_t lane,
                                    ptrdiff_t n)
{
    S a[GROUP], b[GROUP];
    fa_place(a, u, i, lane, n);
    fa_place(b, v, i, lane, n);
    return fa_add_products(total, a, b, 0, bound);
}

/* The sum of the 16 lanes by halves: lane i + lane i+8, then i + i+4, i + i+2, i + i+1.  Rotated lanes have the same
 * sum: the same lanes are added in every step, and a + b is b + a. */
FA_INLINE double fa_sum_lanes(wide v)
{
    for (int half = WIDE / 2; half; half /= 2)
        FA_UNROLL for (int i = 0; i < half; i++) v.r[i] = r64_add(v.r[i], v.r[i + half]);
    return r64_sum(v.r[0]);
}

#endif
