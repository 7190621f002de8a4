/* NEON (Advanced SIMD), which every 64-bit ARM processor has: a register here is a pair of NEON's, 8 floats or 4
 * doubles.
 *
 * Pairs are used because `ldp`, `stp` and `stnp` move two registers, and because a register of 16-bit floats widens to
 * two of floats.  No word fuses a multiplication and an addition: the compiler may not (-ffp-contract=off), and no
 * intrinsic here does.  NEON's "greater" raises a status flag for NaN, which nobody reads.
 *
 * `stnp` is a hint to pass the caches.  It takes any address, and it is one instruction for a pair, as `stp` is.  A
 * release orders it like any other store, so there is no fence.  What `stnp` gains is not known: no ARM processor was
 * at hand.  16-bit floats are not streamed, because `stnp` takes two registers and they fill one.
 */

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include "exact.h"
#define W32 8
#define W64 4
typedef struct { float32x4_t lo, hi; } r32;
typedef struct { float64x2_t lo, hi; } r64;
/* Without this GCC 12 computes an address for each half, and makes no `ldp` or `stp` of the two. */
#define FA_ONE_ADDRESS(p) __asm__("" : "+r"(p))
/* R's words: F and U are NEON's suffixes for its elements and masks, M is a half's mask, and n its lanes. */
#define FA_NEON(R, E, F, U, M, n)                                                                              \
    FA_INLINE R R##_load(const E *p)                                                                           \
    {                                                                                                          \
        FA_ONE_ADDRESS(p);                                                                                     \
        return (R){vld1q_##F(p), vld1q_##F(p + n)};                                                            \
    }                                                                                                          \
    FA_INLINE void R##_store(E *p, R v)                                                                        \
    {                                                                                                          \
        FA_ONE_ADDRESS(p);                                                                                     \
        vst1q_##F(p, v.lo), vst1q_##F(p + n, v.hi);                                                            \
    }                                                                                                          \
    FA_INLINE void R##_stream(E *p, R v)                                                                       \
    { __asm__("stnp %q1, %q2, %0" : "=Q"(*(struct { E of[2 * n]; } *)p) : "w"(v.lo), "w"(v.hi)); }             \
    FA_INLINE R R##_splat(E s) { return (R){vdupq_n_##F(s), vdupq_n_##F(s)}; }                                 \
    FA_INLINE R R##_mul(R a, R b) { return (R){vmulq_##F(a.lo, b.lo), vmulq_##F(a.hi, b.hi)}; }                \
    FA_INLINE R R##_add(R a, R b) { return (R){vaddq_##F(a.lo, b.lo), vaddq_##F(a.hi, b.hi)}; }                \
    FA_INLINE R R##_where_gt(R u, R v, R a, R b)                                                               \
    {                                                                                                          \
        return (R){vbslq_##F(vcgtq_##F(u.lo, v.lo), a.lo, b.lo), vbslq_##F(vcgtq_##F(u.hi, v.hi), a.hi, b.hi)}; \
    }                                                                                                          \
    FA_INLINE R R##_where_le(R u, R v, R a, R b)                                                               \
    {                                                                                                          \
        return (R){vbslq_##F(vcleq_##F(u.lo, v.lo), a.lo, b.lo), vbslq_##F(vcleq_##F(u.hi, v.hi), a.hi, b.hi)}; \
    }                                                                                                          \
    /* The lanes of a mask as bits: each lane keeps only its own bit, and the lanes are added. */              \
    FA_INLINE ptrdiff_t R##_bits(M lo, M hi)                                                                   \
    {                                                                                                          \
        lo = vandq_##U(lo, vld1q_##U(R##_bit)), hi = vandq_##U(hi, vld1q_##U(R##_bit + n));                    \
        return (ptrdiff_t)vaddvq_##U(vorrq_##U(lo, hi));                                                       \
    }                                                                                                          \
    FA_INLINE ptrdiff_t R##_bits_gt(R u, R v) { return R##_bits(vcgtq_##F(u.lo, v.lo), vcgtq_##F(u.hi, v.hi)); } \
    FA_INLINE ptrdiff_t R##_bits_le(R u, R v) { return R##_bits(vcleq_##F(u.lo, v.lo), vcleq_##F(u.hi, v.hi)); } \
    FA_INLINE R R##_where_bits(ptrdiff_t k, R a, R b)                                                          \
    {                                                                                                          \
        M bits = vdupq_n_##U((R##_lane)k);                                                                     \
        return (R){vbslq_##F(vtstq_##U(bits, vld1q_##U(R##_bit)), a.lo, b.lo),                                 \
                   vbslq_##F(vtstq_##U(bits, vld1q_##U(R##_bit + n)), a.hi, b.hi)};                            \
    }
typedef uint32_t r32_lane;
typedef uint64_t r64_lane;
static const r32_lane r32_bit[W32] = {1, 2, 4, 8, 16, 32, 64, 128};
static const r64_lane r64_bit[W64] = {1, 2, 4, 8};
FA_NEON(r32, float, f32, u32, uint32x4_t, 4)
FA_NEON(r64, double, f64, u64, uint64x2_t, 2)
FA_INLINE float64x2_t fa_zero_where(uint64x2_t mask, float64x2_t a)
{ return vreinterpretq_f64_u64(vbicq_u64(vreinterpretq_u64_f64(a), mask)); }
FA_INLINE r64 r64_zero_where_gt(r64 u, r64 v, r64 a)
{ return (r64){fa_zero_where(vcgtq_f64(u.lo, v.lo), a.lo), fa_zero_where(vcgtq_f64(u.hi, v.hi), a.hi)}; }
FA_INLINE r64 fa_widened(float32x4_t v) { return (r64){vcvt_f64_f32(vget_low_f32(v)), vcvt_high_f64_f32(v)}; }
FA_INLINE r64 r64_widen(const float *p) { return fa_widened(vld1q_f32(p)); }
FA_INLINE r64 r64_part(r32 v, int k) { return fa_widened(k ? v.hi : v.lo); }
FA_INLINE double r64_sum(r64 v) { return vaddvq_f64(vaddq_f64(v.lo, v.hi)); }
FA_INLINE void fa_fence(void) {}

#define FA_HALVES
typedef uint16x8_t h16;
FA_INLINE h16 h16_load(const uint16_t *p) { return vld1q_u16(p); }
FA_INLINE void h16_store(uint16_t *p, h16 h) { vst1q_u16(p, h); }
FA_INLINE void h16_stream(uint16_t *p, h16 h) { vst1q_u16(p, h); }
FA_INLINE r32 r32_of_half(h16 h)
{
    float16x8_t v = vreinterpretq_f16_u16(h);
    return (r32){vcvt_f32_f16(vget_low_f16(v)), vcvt_high_f32_f16(v)};
}
FA_INLINE h16 r32_to_half(r32 v) { return vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(v.lo), v.hi)); }
FA_INLINE r32 r32_of_brain(h16 h)
{
    return (r32){vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(h), 16)),
                 vreinterpretq_f32_u32(vshll_high_n_u16(h, 16))};
}
/* Rounds to nearest even in integer arithmetic: vaddhn keeps the upper halves of sums.  A NaN is made quiet instead. */
FA_INLINE uint32x4_t fa_rounding(uint32x4_t bits)
{ return vaddq_u32(vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1)), vdupq_n_u32(0x7fff)); }
FA_INLINE h16 r32_to_brain(r32 v)
{
    uint32x4_t lo = vreinterpretq_u32_f32(v.lo), hi = vreinterpretq_u32_f32(v.hi);
    h16 rounded = vaddhn_high_u32(vaddhn_u32(lo, fa_rounding(lo)), hi, fa_rounding(hi));
    h16 quiet = vorrq_u16(vuzp2q_u16(vreinterpretq_u16_u32(lo), vreinterpretq_u16_u32(hi)), vdupq_n_u16(0x40));
    uint32x4_t number_lo = vceqq_f32(v.lo, v.lo), number_hi = vceqq_f32(v.hi, v.hi);
    return vbslq_u16(vuzp1q_u16(vreinterpretq_u16_u32(number_lo), vreinterpretq_u16_u32(number_hi)), rounded, quiet);
}
