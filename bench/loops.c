/* The loops behind prelu_backward and nothing else: what their instructions take, without arguments and threads.
 *
 *     gcc -O3 -march=x86-64-v4 -mprefer-vector-width=512 -ffp-contract=off -fno-trapping-math bench/loops.c -o loops
 *     ./loops 49 256          rows of 49 floats (or periods, for the loops of running slopes), 256 KB in all three arrays
 *
 * Prints nanoseconds for 16 floats and the ratio to an add of the same arrays, medians of 41 turns.  Evidence for
 * docs/performance.md; the kernels themselves are fastact/_kernels.py.  Needs AVX-512.
 */
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define INLINE static inline __attribute__((always_inline))
typedef struct { __m512d a, b; } wide;
typedef void loop(float *dx, const float *dy, const float *x, const float *alpha, double *acc, long n, long m);
enum { AHEAD = 256 };

INLINE void fetch(const float *p) { __builtin_prefetch(p); }
INLINE wide zero(void) { return (wide){_mm512_setzero_pd(), _mm512_setzero_pd()}; }
INLINE wide load(const double *p) { return (wide){_mm512_loadu_pd(p), _mm512_loadu_pd(p + 8)}; }
INLINE void store(double *p, wide v) { _mm512_storeu_pd(p, v.a), _mm512_storeu_pd(p + 8, v.b); }
INLINE __mmask16 not_above_zero(__m512 v) { return _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NGT_UQ); }
INLINE __m512d widen(const float *p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }

/* total + the terms of 16 elements, those in `mine` of them */
INLINE wide terms(wide t, const float *dy, const float *x, __mmask16 mine)
{
    __mmask16 k = not_above_zero(_mm512_loadu_ps(x)) & mine;
    t.a = _mm512_mask3_fmadd_pd(widen(x), widen(dy), t.a, (__mmask8)k);
    t.b = _mm512_mask3_fmadd_pd(widen(x + 8), widen(dy + 8), t.b, (__mmask8)(k >> 8));
    return t;
}

INLINE void gradient(float *dx, const float *dy, const float *x, __m512 alpha)
{
    __m512 g = _mm512_loadu_ps(dy);
    _mm512_storeu_ps(dx, _mm512_mask_mul_ps(g, not_above_zero(_mm512_loadu_ps(x)), alpha, g));
}

INLINE double total(wide t)
{
    __m512d v = _mm512_add_pd(t.a, t.b);
    __m256d q = _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1));
    __m128d d = _mm_add_pd(_mm256_castpd256_pd128(q), _mm256_extractf128_pd(q, 1));
    return _mm_cvtsd_f64(_mm_add_sd(d, _mm_unpackhi_pd(d, d)));
}

INLINE wide group(wide t, float *dx, const float *dy, const float *x, __m512 alpha)
{
    t = terms(t, dy, x, 0xffff);
    fetch(dy + AHEAD), fetch(x + AHEAD);
    gradient(dx, dy, x, alpha);
    return t;
}

#define LOOP(NAME) \
    __attribute__((noinline)) static void NAME(float *dx, const float *dy, const float *x, const float *alpha, \
                                               double *acc, long n, long m)

LOOP(add)
{
    for (long i = 0; i + 16 <= n; i += 16)
        _mm512_storeu_ps(dx + i, _mm512_add_ps(_mm512_loadu_ps(dy + i), _mm512_loadu_ps(x + i)));
}

LOOP(one_row)
{
    wide t = zero();
    for (long i = 0; i + 16 <= n; i += 16) t = group(t, dx + i, dy + i, x + i, _mm512_set1_ps(*alpha));
    *acc += total(t);
}

/* as the kernels do it: groups run on across the ends of rows, and one in which a row ends is shared out */
LOOP(rows_shared)
{
    wide t = zero(), next;
    for (long i = 0, row = 0, end = m; end <= n; row++, end += m, t = next) {
        __m512 a = _mm512_set1_ps(alpha[row]);
        for (; i + 16 <= end; i += 16) t = group(t, dx + i, dy + i, x + i, a);
        next = zero();
        if (i < end) {
            __mmask16 mine = (__mmask16)((1u << (end - i)) - 1);
            t = terms(t, dy + i, x + i, mine);
            next = terms(next, dy + i, x + i, (__mmask16)~mine);
            gradient(dx + i, dy + i, x + i, _mm512_mask_mov_ps(_mm512_set1_ps(alpha[row + 1]), mine, a));
            fetch(dy + i + AHEAD), fetch(x + i + AHEAD);
            i += 16;
        }
        acc[row] += total(t);
    }
}

/* every row from its beginning, its end under a mask: no branch depends on where it begins */
LOOP(rows_apart)
{
    __mmask16 last = (__mmask16)((1u << m % 16) - 1);
    for (long row = 0; row < n / m; row++, dx += m, dy += m, x += m) {
        __m512 a = _mm512_set1_ps(alpha[row]);
        wide t = zero();
        long i = 0;
        for (; i + 16 <= m; i += 16) t = group(t, dx + i, dy + i, x + i, a);
        if (last) {
            __m512 v = _mm512_maskz_loadu_ps(last, x + i), g = _mm512_maskz_loadu_ps(last, dy + i);
            __mmask16 k = not_above_zero(v);
            _mm512_mask_storeu_ps(dx + i, last, _mm512_mask_mul_ps(g, k, a, g));
            k &= last;
            t.a = _mm512_mask3_fmadd_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(v)),
                                        _mm512_cvtps_pd(_mm512_castps512_ps256(g)), t.a, (__mmask8)k);
            if (m % 16 > 8)
                t.b = _mm512_mask3_fmadd_pd(_mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)),
                                            _mm512_cvtps_pd(_mm512_extractf32x8_ps(g, 1)), t.b, (__mmask8)(k >> 8));
        }
        acc[row] += total(t);
    }
}

/* slopes that run along: accumulators in memory, or the 64 of a short period in registers */
LOOP(running_in_memory)
{
    for (long i = 0; i + m <= n; i += m)
        for (long p = 0; p + 16 <= m; p += 16)
            store(acc + p, group(load(acc + p), dx + i + p, dy + i + p, x + i + p, _mm512_loadu_ps(alpha + p)));
}

LOOP(running_and_dx_fetched)
{
    for (long i = 0; i + m <= n; i += m)
        for (long p = 0; p + 16 <= m; p += 16) {
            fetch(dx + i + p + AHEAD);
            store(acc + p, group(load(acc + p), dx + i + p, dy + i + p, x + i + p, _mm512_loadu_ps(alpha + p)));
        }
}

LOOP(running_in_registers)
{
    wide t[4] = {load(acc), load(acc + 16), load(acc + 32), load(acc + 48)};
    for (long i = 0; i + 64 <= n; i += 64) {
#pragma GCC unroll 4
        for (int k = 0; k < 64; k += 16)
            t[k / 16] = group(t[k / 16], dx + i + k, dy + i + k, x + i + k, _mm512_loadu_ps(alpha + k));
    }
    for (int k = 0; k < 4; k++) store(acc + 16 * k, t[k]);
}

static const struct { const char *name; loop *run; } LOOPS[] = {
    {"add", add}, {"one_row", one_row}, {"rows_shared", rows_shared}, {"rows_apart", rows_apart},
    {"running_in_memory", running_in_memory}, {"running_and_dx_fetched", running_and_dx_fetched},
    {"running_in_registers", running_in_registers},
};
enum { NUMBER = sizeof LOOPS / sizeof *LOOPS, TURNS = 41 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    double d = *(const double *)a - *(const double *)b;
    return (d > 0) - (d < 0);
}

int main(int count, char **words)
{
    long m = count > 1 ? atol(words[1]) : 49, n = (count > 2 ? atol(words[2]) : 256) * 1024 / 12;
    n = n / (16 * m) ? n / (16 * m) * 16 * m : 16 * m;
    size_t size = ((size_t)n * 4 + 4096) & ~(size_t)4095;
    char *memory = aligned_alloc(4096, 3 * size + 8192);
    float *x = (float *)memory, *dy = (float *)(memory + size), *dx = (float *)(memory + 2 * size);
    float *alpha = aligned_alloc(64, ((size_t)n * 4 + 4096) & ~(size_t)63);
    double *acc = aligned_alloc(64, ((size_t)n * 8 + 4096) & ~(size_t)63), seconds[NUMBER][TURNS];
    memset(acc, 0, (size_t)n * 8);
    memset(memory, 0, 3 * size + 8192);
    for (long i = 0; i < n; i++) {
        x[i] = (float)rand() / RAND_MAX - .5f, dy[i] = (float)rand() / RAND_MAX - .5f;
        alpha[i] = .25f;
    }
    long repeats = 4000000 / n + 1;
    for (int turn = 0; turn < TURNS; turn++)
        for (int k = 0; k < NUMBER; k++)
            for (int warm = 0; warm < 2; warm++) {
                double start = now();
                for (long r = 0; r < repeats; r++) LOOPS[k].run(dx, dy, x, alpha, acc, n, m);
                seconds[k][turn] = (now() - start) / (double)repeats;
            }
    for (int k = 0; k < NUMBER; k++) qsort(seconds[k], TURNS, sizeof(double), ascending);
    for (int k = 0; k < NUMBER; k++)
        printf("%-24s %6.3f ns for 16 floats  %5.2f of add\n", LOOPS[k].name,
               seconds[k][TURNS / 2] * 16e9 / (double)n, seconds[k][TURNS / 2] / seconds[0][TURNS / 2]);
    return 0;
}
