/* The level without vectors: a register is one number, and the compiler chooses its instructions. */

#include <stddef.h>
#include "exact.h"
#define W32 1
#define W64 1
typedef float r32;
typedef double r64;
#define FA_SCALAR(R, E)                                                                                        \
    FA_INLINE R R##_load(const E *p) { return *p; }                                                            \
    FA_INLINE void R##_store(E *p, R v) { *p = v; }                                                            \
    FA_INLINE void R##_stream(E *p, R v) { *p = v; }                                                           \
    FA_INLINE R R##_splat(E s) { return s; }                                                                   \
    FA_INLINE R R##_mul(R a, R b) { return a * b; }                                                            \
    FA_INLINE R R##_add(R a, R b) { return a + b; }                                                            \
    FA_INLINE R R##_where_gt(R u, R v, R a, R b) { return u > v ? a : b; }                                     \
    FA_INLINE R R##_where_le(R u, R v, R a, R b) { return u <= v ? a : b; }                                    \
    FA_INLINE int R##_bits_gt(R u, R v) { return u > v; }                                                      \
    FA_INLINE int R##_bits_le(R u, R v) { return u <= v; }                                                     \
    FA_INLINE R R##_where_bits(ptrdiff_t k, R a, R b) { return k & 1 ? a : b; }
FA_SCALAR(r32, float)
FA_SCALAR(r64, double)
FA_INLINE r64 r64_zero_where_gt(r64 u, r64 v, r64 a) { return u > v ? 0.0 : a; }
FA_INLINE r64 r64_widen(const float *p) { return (double)*p; }
FA_INLINE r64 r64_part(r32 v, int k) { (void)k; return (double)v; }
FA_INLINE double r64_sum(r64 v) { return v; }
FA_INLINE void fa_fence(void) {}
