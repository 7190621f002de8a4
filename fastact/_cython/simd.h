/* The vector vocabulary that kernels.pxi is written in: one meaning, four levels.
 *
 * `vec` is one register of LANES elements of the computing type T, for elementwise work; `wide` is
 * a group of 16 doubles whatever the register, so that sums have one order at every level.  The build
 * picks the type (-DFASTACT_BITS=32 or 64) and the level (-march=..., which is what __AVX512F__ and
 * friends tell).  A level is a dozen one-register primitives; all below them is common.
 * (A vec of 16 elements was tried first: GCC 12 passes such structs through the stack, 10 x slower.)
 */
#ifndef FASTACT_SIMD_H
#define FASTACT_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "exact.h"

#if defined(__GNUC__) || defined(__clang__)
#define FA_INLINE static inline __attribute__((always_inline))
#define FA_UNROLL _Pragma("GCC unroll 16")
#else
#define FA_INLINE static inline
#define FA_UNROLL
#endif

enum { GROUP = 16 };            /* the lanes of a sum: doubles in a wide */
enum { STREAM_ALIGNMENT = 64 }; /* bytes: a cache line, and the widest register */

#if FASTACT_BITS == 32
typedef float T;
#else
typedef double T;
#endif

/* ---- one register of each level: r32 (floats), r64 (doubles) --------------------------------
 * Compares are ordered and quiet: false for NaN, and no floating-point exception is raised.
 * where_gt(u, v, a, b) is u > v ? a : b; where_le(u, v, a, b) is u <= v ? a : b.               */

#if defined(FASTACT_GENERIC) || !defined(__SSE4_2__)

#define FA_LEVEL "generic"
#define W32 1
#define W64 1
typedef float r32;
typedef double r64;
#define FA_SCALAR(R, E)                                                                              \
    FA_INLINE R R##_load(const E *p) { return *p; }                                                  \
    FA_INLINE void R##_store(E *p, R v) { *p = v; }                                                  \
    FA_INLINE void R##_stream(E *p, R v) { *p = v; }                                                 \
    FA_INLINE R R##_splat(E s) { return s; }                                                         \
    FA_INLINE R R##_mul(R a, R b) { return a * b; }                                                  \
    FA_INLINE R R##_add(R a, R b) { return a + b; }                                                  \
    FA_INLINE R R##_where_gt(R u, R v, R a, R b) { return u > v ? a : b; }                           \
    FA_INLINE R R##_where_le(R u, R v, R a, R b) { return u <= v ? a : b; }
FA_SCALAR(r32, float)
FA_SCALAR(r64, double)
FA_INLINE r64 r64_zero_where_gt(r64 u, r64 v, r64 a) { return u > v ? 0.0 : a; }
FA_INLINE r64 r64_widen(const float *p) { return (double)*p; }
FA_INLINE double r64_sum(r64 v) { return v; }
FA_INLINE void fence(void) {}

#elif defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && defined(__AVX512BW__)

#include <immintrin.h>
#define FA_LEVEL "v4"
#define W32 16
#define W64 8
typedef __m512 r32;
typedef __m512d r64;
#define FA_MASK(n) (__mmask16)((1u << (n)) - 1) /* the first n lanes */
#define FA_LANES_BELOW(n) (__mmask16)((n) > 0 ? (1u << (n)) - 1 : 0)
#define FA_512(R, E, S)                                                                              \
    FA_INLINE R R##_load_part(const E *p, ptrdiff_t n) { return _mm512_maskz_loadu_##S(FA_MASK(n), p); } \
    FA_INLINE void R##_store_part(E *p, R v, ptrdiff_t n) { _mm512_mask_storeu_##S(p, FA_MASK(n), v); } \
    FA_INLINE R R##_load_mask(const E *p, __mmask16 k) { return _mm512_maskz_loadu_##S(k, p); }      \
    FA_INLINE R R##_load(const E *p) { return _mm512_loadu_##S(p); }                                 \
    FA_INLINE void R##_store(E *p, R v) { _mm512_storeu_##S(p, v); }                                 \
    FA_INLINE void R##_stream(E *p, R v) { _mm512_stream_##S(p, v); }                                \
    FA_INLINE R R##_mask_mov(R a, __mmask16 k, R b) { return _mm512_mask_mov_##S(a, k, b); }         \
    FA_INLINE R R##_splat(E s) { return _mm512_set1_##S(s); }                                        \
    FA_INLINE R R##_mul(R a, R b) { return _mm512_mul_##S(a, b); }                                   \
    FA_INLINE R R##_add(R a, R b) { return _mm512_add_##S(a, b); }                                   \
    /* By the lanes where u is not greater, so that GCC joins the product in b and the select. */      \
    FA_INLINE R R##_where_gt(R u, R v, R a, R b)                                                     \
    { return _mm512_mask_mov_##S(a, _mm512_cmp_##S##_mask(u, v, _CMP_NGT_UQ), b); }                  \
    FA_INLINE R R##_where_le(R u, R v, R a, R b)                                                     \
    { return _mm512_mask_blend_##S(_mm512_cmp_##S##_mask(u, v, _CMP_LE_OQ), b, a); }
FA_512(r32, float, ps)
FA_512(r64, double, pd)
FA_INLINE r64 r64_zero_where_gt(r64 u, r64 v, r64 a)
{ return _mm512_maskz_mov_pd(_mm512_cmp_pd_mask(u, v, _CMP_NGT_UQ), a); }
FA_INLINE r64 r64_widen(const float *p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
FA_INLINE double r64_sum(r64 v)
{
    __m256d q = _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1));
    __m128d d = _mm_add_pd(_mm256_castpd256_pd128(q), _mm256_extractf128_pd(q, 1));
    return _mm_cvtsd_f64(_mm_add_sd(d, _mm_unpackhi_pd(d, d)));
}
FA_INLINE void fence(void) { _mm_sfence(); }

#elif defined(__AVX2__)

#include <immintrin.h>
#define FA_LEVEL "v3"
#define W32 8
#define W64 4
typedef __m256 r32;
typedef __m256d r64;
#define FA_256(R, E, S)                                                                              \
    FA_INLINE R R##_load(const E *p) { return _mm256_loadu_##S(p); }                                 \
    FA_INLINE void R##_store(E *p, R v) { _mm256_storeu_##S(p, v); }                                 \
    FA_INLINE void R##_stream(E *p, R v) { _mm256_stream_##S(p, v); }                                \
    FA_INLINE R R##_splat(E s) { return _mm256_set1_##S(s); }                                        \
    FA_INLINE R R##_mul(R a, R b) { return _mm256_mul_##S(a, b); }                                   \
    FA_INLINE R R##_add(R a, R b) { return _mm256_add_##S(a, b); }                                   \
    FA_INLINE R R##_where_gt(R u, R v, R a, R b)                                                     \
    { return _mm256_blendv_##S(b, a, _mm256_cmp_##S(u, v, _CMP_GT_OQ)); }                            \
    FA_INLINE R R##_where_le(R u, R v, R a, R b)                                                     \
    { return _mm256_blendv_##S(b, a, _mm256_cmp_##S(u, v, _CMP_LE_OQ)); }
FA_256(r32, float, ps)
FA_256(r64, double, pd)
FA_INLINE r64 r64_zero_where_gt(r64 u, r64 v, r64 a)
{ return _mm256_andnot_pd(_mm256_cmp_pd(u, v, _CMP_GT_OQ), a); }
FA_INLINE r64 r64_widen(const float *p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
FA_INLINE double r64_sum(r64 v)
{
    __m128d d = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(d, _mm_unpackhi_pd(d, d)));
}
FA_INLINE void fence(void) { _mm_sfence(); }

#else /* SSE4.2: x86-64-v2 */

#include <nmmintrin.h>
#define FA_LEVEL "v2"
#define W32 4
#define W64 2
typedef __m128 r32;
typedef __m128d r64;
/* SSE has no quiet ordered "greater"; the signalling one differs only in a status flag nobody reads. */
#define FA_128(R, E, S)                                                                              \
    FA_INLINE R R##_load(const E *p) { return _mm_loadu_##S(p); }                                    \
    FA_INLINE void R##_store(E *p, R v) { _mm_storeu_##S(p, v); }                                    \
    FA_INLINE void R##_stream(E *p, R v) { _mm_stream_##S(p, v); }                                   \
    FA_INLINE R R##_splat(E s) { return _mm_set1_##S(s); }                                           \
    FA_INLINE R R##_mul(R a, R b) { return _mm_mul_##S(a, b); }                                      \
    FA_INLINE R R##_add(R a, R b) { return _mm_add_##S(a, b); }                                      \
    FA_INLINE R R##_where_gt(R u, R v, R a, R b)                                                     \
    { return _mm_blendv_##S(b, a, _mm_cmplt_##S(v, u)); }                                            \
    FA_INLINE R R##_where_le(R u, R v, R a, R b)                                                     \
    { return _mm_blendv_##S(b, a, _mm_cmple_##S(u, v)); }
FA_128(r32, float, ps)
FA_128(r64, double, pd)
FA_INLINE r64 r64_zero_where_gt(r64 u, r64 v, r64 a) { return _mm_andnot_pd(_mm_cmplt_pd(v, u), a); }
FA_INLINE r64 r64_widen(const float *p)
{ return _mm_cvtps_pd(_mm_castsi128_ps(_mm_loadl_epi64((const __m128i *)p))); }
FA_INLINE double r64_sum(r64 v) { return _mm_cvtsd_f64(_mm_add_sd(v, _mm_unpackhi_pd(v, v))); }
FA_INLINE void fence(void) { _mm_sfence(); }

#endif

/* ---- vec: one register of T ------------------------------------------------------------------ */

#if FASTACT_BITS == 32
enum { LANES = W32 };
typedef r32 vec;
#define FA_VEC(NAME) r32_##NAME
FA_INLINE r64 r64_load_as_double(const T *p) { return r64_widen(p); }
#else
enum { LANES = W64 };
typedef r64 vec;
#define FA_VEC(NAME) r64_##NAME
FA_INLINE r64 r64_load_as_double(const T *p) { return r64_load(p); }
#endif
enum { LINE = STREAM_ALIGNMENT / sizeof(T) }; /* elements in a cache line */
/* How many elements ahead they are fetched, in the caches and from memory: see docs/performance.md for the figures. */
enum { FETCH_AHEAD = 1024 / sizeof(T), FETCH_AHEAD_STREAMED = 2048 / sizeof(T) };
#define vec_load FA_VEC(load)
#define vec_store FA_VEC(store)
#define vec_stream FA_VEC(stream)
#define vec_splat FA_VEC(splat)
#define vec_mul FA_VEC(mul)
#define vec_add FA_VEC(add)
#define vec_where_gt FA_VEC(where_gt)
#define vec_where_le FA_VEC(where_le)

/* The first n < LANES elements and +0.0 in the others; nothing is touched past p[n-1]. */
#if defined(FA_MASK)
#define vec_load_part FA_VEC(load_part)
#define vec_store_part FA_VEC(store_part)
#else
FA_INLINE vec vec_load_part(const T *p, ptrdiff_t n)
{
    T t[LANES] = {0};
    for (ptrdiff_t i = 0; i < n; i++) t[i] = p[i];
    return vec_load(t);
}
FA_INLINE void vec_store_part(T *p, vec v, ptrdiff_t n)
{
    T t[LANES];
    vec_store(t, v);
    for (ptrdiff_t i = 0; i < n && i < LANES; i++) p[i] = t[i];
}
#endif

/* The same past the caches, element by element.  An ordinary store between streaming ones costs over a microsecond
 * on a busy bus; these join with their neighbours in a write-combining buffer. */
FA_INLINE void vec_stream_part(T *p, vec v, ptrdiff_t n)
{
#if defined(FASTACT_GENERIC) || !defined(__SSE4_2__)
    vec_store_part(p, v, n);
#elif FASTACT_BITS == 32
    int32_t t[LANES];
    vec_store((T *)t, v);
    for (ptrdiff_t i = 0; i < n && i < LANES; i++) _mm_stream_si32((int *)p + i, t[i]);
#else
    int64_t t[LANES];
    vec_store((T *)t, v);
    for (ptrdiff_t i = 0; i < n && i < LANES; i++) _mm_stream_si64((long long *)p + i, t[i]);
#endif
}

static const double fa_ramp64[GROUP] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#define TINY ((T)0x1p-149) /* the least float above 0 */
static const T fa_ramp[GROUP] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* Lanes below n from a, the others from b. */
FA_INLINE vec vec_join(vec a, vec b, ptrdiff_t n)
{
#if defined(FA_MASK)
    return FA_VEC(mask_mov)(b, FA_LANES_BELOW(n), a);
#else
    return vec_where_gt(vec_splat((T)n), vec_load(fa_ramp), a, b);
#endif
}

/* ---- wide: 16 doubles ------------------------------------------------------------------------ */

enum { WIDE = GROUP / W64 }; /* registers in a wide */
typedef struct { r64 r[WIDE]; } wide;
enum { SIDE_BY_SIDE = WIDE <= 2 ? 4 : 1 }; /* wides that registers can hold over a loop */

#define FA_WIDE(NAME, PARAMETERS, EXPRESSION)                                                        \
    FA_INLINE wide wide_##NAME PARAMETERS                                                            \
    {                                                                                                \
        wide v;                                                                                      \
        FA_UNROLL for (int i = 0; i < WIDE; i++) v.r[i] = EXPRESSION;                                \
        return v;                                                                                    \
    }
FA_WIDE(load, (const double *p), r64_load(p + i * W64))
FA_WIDE(splat, (double s), r64_splat(s))
FA_WIDE(add, (wide a, wide b), r64_add(a.r[i], b.r[i]))
/* Lanes below n from a, the others from b. */
FA_WIDE(join, (wide a, wide b, ptrdiff_t n),
        r64_where_gt(r64_splat((double)n), r64_load(fa_ramp64 + i * W64), a.r[i], b.r[i]))

/* total + (u > bound ? 0 : u * v) for 16 elements of T in memory, in doubles.  The elements are widened by
 * converting loads, which leave out the shuffles of a conversion between registers.  Where no lane of total
 * is -0.0, leaving a lane alone is adding +0.0 to it. */
FA_INLINE wide wide_add_products_unless_gt(wide total, const T *u, const T *v, T bound)
{
#if FASTACT_BITS == 32 && W64 == 8
    /* A converting load takes two of the two vector ports here, so the rest has to be short: one comparison
     * of floats, and multiply-adds fused (the product is exact) under its mask. */
    __mmask16 k = _mm512_cmp_ps_mask(vec_load(u), vec_splat(bound), _CMP_NGT_UQ);
    FA_UNROLL for (int i = 0; i < WIDE; i++)
        total.r[i] = _mm512_mask3_fmadd_pd(r64_widen(u + i * W64), r64_widen(v + i * W64), total.r[i],
                                           (__mmask8)(k >> i * W64));
#else
    FA_UNROLL for (int i = 0; i < WIDE; i++) {
        r64 w = r64_load_as_double(u + i * W64);
        r64 product = r64_mul(w, r64_load_as_double(v + i * W64));
        total.r[i] = r64_add(total.r[i], r64_zero_where_gt(w, r64_splat(bound), product));
    }
#endif
    return total;
}

/* The same, shared out: lanes below n are added to *total, the others to *next. */
FA_INLINE void wide_share_products_unless_gt(wide *total, wide *next, const T *u, const T *v, T bound, ptrdiff_t n)
{
#if FASTACT_BITS == 32 && W64 == 8
    __mmask16 k = _mm512_cmp_ps_mask(vec_load(u), vec_splat(bound), _CMP_NGT_UQ), below = FA_MASK(n);
    __mmask16 mine = k & below, others = k & ~below;
    FA_UNROLL for (int i = 0; i < WIDE; i++) {
        r64 a = r64_widen(u + i * W64), b = r64_widen(v + i * W64);
        total->r[i] = _mm512_mask3_fmadd_pd(a, b, total->r[i], (__mmask8)(mine >> i * W64));
        next->r[i] = _mm512_mask3_fmadd_pd(a, b, next->r[i], (__mmask8)(others >> i * W64));
    }
#else
    wide zero = wide_splat(0), term = wide_add_products_unless_gt(zero, u, v, bound);
    *total = wide_add(*total, wide_join(term, zero, n));
    *next = wide_add(*next, wide_join(zero, term, n));
#endif
}

FA_INLINE void wide_store(double *p, wide v)
{
    FA_UNROLL for (int i = 0; i < WIDE; i++) r64_store(p + i * W64, v.r[i]);
}

/* The n elements of p from target[at] on, and +0.0 in the other places of a group. */
FA_INLINE void copy_part(T *target, const T *p, ptrdiff_t at, ptrdiff_t n)
{
#if defined(FA_MASK)
    __mmask16 k = (__mmask16)(((1u << n) - 1) << at);
    FA_UNROLL for (int i = 0; i < GROUP; i += LANES) vec_store(target + i, FA_VEC(load_mask)(p - at + i, (__mmask16)(k >> i)));
#else
    for (ptrdiff_t i = 0; i < GROUP; i++) target[i] = i >= at && i < at + n ? p[i - at] : 0;
#endif
}

/* A hint that the line of p will be used soon. */
FA_INLINE void fetch(const T *p)
{
#if defined(__GNUC__) || defined(__clang__)
    __builtin_prefetch(p);
#endif
}

/* The sum of the 16 lanes by halves: lane i + lane i+8, then i + i+4, i + i+2, i + i+1.
 * Rotated lanes have the same sum, for a + b is b + a. */
FA_INLINE double wide_sum(wide v)
{
    for (int half = WIDE / 2; half; half /= 2)
        FA_UNROLL for (int i = 0; i < half; i++) v.r[i] = r64_add(v.r[i], v.r[i + half]);
    return r64_sum(v.r[0]);
}

#endif
