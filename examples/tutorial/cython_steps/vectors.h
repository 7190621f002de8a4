/* The vectors of steps 4 to 8, in a notation of GCC and Clang: 8 floats or 4 doubles, on whatever registers there are. */
#include <string.h>
#ifdef __SSE__
#include <immintrin.h>
#endif

typedef float floats __attribute__((vector_size(32)));
typedef int ints __attribute__((vector_size(32)));
typedef double doubles __attribute__((vector_size(32)));
typedef long long longs __attribute__((vector_size(32)));
typedef float four_floats __attribute__((vector_size(16)));

static inline floats load8(const float *p) { floats v; memcpy(&v, p, sizeof v); return v; }
static inline void store8(float *p, floats v) { memcpy(p, &v, sizeof v); }

/* given where x > 0, else alpha * given; a comparison has -1 (all bits) in each lane where it holds, else 0 */
static inline floats choose8(floats given, floats x, float alpha)
{
    ints positive = x > 0;
    return (floats)((positive & (ints)given) | (~positive & (ints)(alpha * given)));
}

static inline doubles widen4(const float *p)
{
    four_floats v;
    memcpy(&v, p, sizeof v);
#ifdef __AVX__
    return (doubles)_mm256_cvtps_pd((__m128)v); /* one instruction, where GCC 12 makes four of the line below */
#else
    return __builtin_convertvector(v, doubles);
#endif
}

/* 0 where x > 0, else x * dy, as doubles */
static inline doubles terms4(const float *dy, const float *x)
{
    doubles wide = widen4(x);
    return (doubles)(~(wide > 0) & (longs)(wide * widen4(dy)));
}

static inline doubles add4(doubles a, doubles b) { return a + b; }
static inline doubles zeros4(void) { return (doubles){0, 0, 0, 0}; }
static inline double lane4(doubles v, int k) { return v[k]; }

/* Past the caches; p begins a vector. */
static inline void stream8(float *p, floats v)
{
#if defined(__AVX__)
    _mm256_stream_ps(p, (__m256)v);
#elif defined(__SSE__)
    _mm_stream_ps(p, (__m128){v[0], v[1], v[2], v[3]});
    _mm_stream_ps(p + 4, (__m128){v[4], v[5], v[6], v[7]});
#elif defined(__clang__)
    __builtin_nontemporal_store(v, (floats *)p);
#else
    store8(p, v); /* GCC has no word for it here: an ordinary store */
#endif
}

/* Streamed stores reach memory before whatever comes next. */
static inline void fence(void) { __sync_synchronize(); }
