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
#define FA_512(R, E, S)                                                                              \
    FA_INLINE R R##_load(const E *p) { return _mm512_loadu_##S(p); }                                 \
    FA_INLINE void R##_store(E *p, R v) { _mm512_storeu_##S(p, v); }                                 \
    FA_INLINE void R##_stream(E *p, R v) { _mm512_stream_##S(p, v); }                                \
    FA_INLINE R R##_splat(E s) { return _mm512_set1_##S(s); }                                        \
    FA_INLINE R R##_mul(R a, R b) { return _mm512_mul_##S(a, b); }                                   \
    FA_INLINE R R##_add(R a, R b) { return _mm512_add_##S(a, b); }                                   \
    FA_INLINE R R##_where_gt(R u, R v, R a, R b)                                                     \
    { return _mm512_mask_blend_##S(_mm512_cmp_##S##_mask(u, v, _CMP_GT_OQ), b, a); }                 \
    FA_INLINE R R##_where_le(R u, R v, R a, R b)                                                     \
    { return _mm512_mask_blend_##S(_mm512_cmp_##S##_mask(u, v, _CMP_LE_OQ), b, a); }
FA_512(r32, float, ps)
FA_512(r64, double, pd)
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
#define vec_load FA_VEC(load)
#define vec_store FA_VEC(store)
#define vec_stream FA_VEC(stream)
#define vec_splat FA_VEC(splat)
#define vec_mul FA_VEC(mul)
#define vec_add FA_VEC(add)
#define vec_where_gt FA_VEC(where_gt)
#define vec_where_le FA_VEC(where_le)

/* The first n < LANES elements and +0.0 in the others; nothing is touched past p[n-1]. */
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

static const double fa_ramp64[GROUP] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const T fa_ramp[GROUP] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* Lanes below n from a, the others from b. */
FA_INLINE vec vec_join(vec a, vec b, ptrdiff_t n)
{
    return vec_where_gt(vec_splat((T)n), vec_load(fa_ramp), a, b);
}

/* ---- wide: 16 doubles ------------------------------------------------------------------------ */

enum { WIDE = GROUP / W64 }; /* registers in a wide */
typedef struct { r64 r[WIDE]; } wide;

#define FA_WIDE(NAME, PARAMETERS, EXPRESSION)                                                        \
    FA_INLINE wide wide_##NAME PARAMETERS                                                            \
    {                                                                                                \
        wide v;                                                                                      \
        FA_UNROLL for (int i = 0; i < WIDE; i++) v.r[i] = EXPRESSION;                                \
        return v;                                                                                    \
    }
FA_WIDE(load, (const double *p), r64_load(p + i * W64))
FA_WIDE(splat, (double s), r64_splat(s))
FA_WIDE(mul, (wide a, wide b), r64_mul(a.r[i], b.r[i]))
FA_WIDE(add, (wide a, wide b), r64_add(a.r[i], b.r[i]))
FA_WIDE(where_gt, (wide u, wide w, wide a, wide b), r64_where_gt(u.r[i], w.r[i], a.r[i], b.r[i]))
FA_WIDE(join, (wide a, wide b, ptrdiff_t n),
        r64_where_gt(r64_splat((double)n), r64_load(fa_ramp64 + i * W64), a.r[i], b.r[i]))
/* 16 elements of T as doubles.  From memory, not from a vec: a converting load leaves out the shuffles
 * that a conversion between registers needs. */
FA_WIDE(from, (const T *p), r64_load_as_double(p + i * W64))

FA_INLINE void wide_store(double *p, wide v)
{
    FA_UNROLL for (int i = 0; i < WIDE; i++) r64_store(p + i * W64, v.r[i]);
}

FA_INLINE wide wide_from_part(const T *p, ptrdiff_t n)
{
    T t[GROUP] = {0};
    for (ptrdiff_t i = 0; i < n; i++) t[i] = p[i];
    return wide_from(t);
}

/* The sum of the 16 lanes by halves: lane i + lane i+8, then i + i+4, i + i+2, i + i+1. */
FA_INLINE double wide_sum(wide v)
{
    for (int half = WIDE / 2; half; half /= 2)
        FA_UNROLL for (int i = 0; i < half; i++) v.r[i] = r64_add(v.r[i], v.r[i + half]);
    return r64_sum(v.r[0]);
}

#endif
