/* AVX-512: registers of 16 floats or 8 doubles, and masks.
 *
 * Measured on a Zen 4 core (AMD EPYC) with operands in L1, in cycles: "latency" is the time until a result can be used,
 * "each" the time per instruction where many do not wait for one another.
 *   word                 instruction                          latency   each
 *   load, load_masked    vmovups                                           1
 *   store, store_masked  vmovups                                           2
 *   mul                  vmulps                                     3      1
 *   add                  vaddpd                                     3      1
 *   where_gt, where_le   vcmpps                                            1
 *                        vblendmps, or vmulps under the mask     1, 3  0.5, 1
 *   add_product_masked   vfmadd231pd under the mask                 4      1
 *   widen                vcvtps2pd from memory                          1.33
 */

#include <immintrin.h>
#include <stddef.h>
#include "exact.h"
#define W32 16
#define W64 8
#define FA_STREAM_INTEGER
typedef __m512 r32;
typedef __m512d r64;
typedef __mmask16 FA_ANY_MASK;
#define FA_MASK(n) (__mmask16)((1u << (n)) - 1)
#define FA_NOT_GREATER(u, v) _mm512_cmp_ps_mask(u, v, _CMP_NGT_UQ)
#define FA_512(R, E, S)                                                                                        \
    FA_INLINE R R##_load_masked(const E *p, __mmask16 k) { return _mm512_maskz_loadu_##S(k, p); }              \
    FA_INLINE void R##_store_masked(E *p, R v, __mmask16 k) { _mm512_mask_storeu_##S(p, k, v); }               \
    FA_INLINE R R##_select(__mmask16 k, R a, R b) { return _mm512_mask_mov_##S(b, k, a); }                     \
    FA_INLINE R R##_load(const E *p) { return _mm512_loadu_##S(p); }                                           \
    FA_INLINE void R##_store(E *p, R v) { _mm512_storeu_##S(p, v); }                                           \
    FA_INLINE void R##_stream(E *p, R v) { _mm512_stream_##S(p, v); }                                          \
    FA_INLINE R R##_splat(E s) { return _mm512_set1_##S(s); }                                                  \
    FA_INLINE R R##_mul(R a, R b) { return _mm512_mul_##S(a, b); }                                             \
    FA_INLINE R R##_add(R a, R b) { return _mm512_add_##S(a, b); }                                             \
    /* The mask has the lanes where u is not greater, so that GCC fuses the product in b with the select. */   \
    FA_INLINE R R##_where_gt(R u, R v, R a, R b)                                                               \
    { return _mm512_mask_mov_##S(a, _mm512_cmp_##S##_mask(u, v, _CMP_NGT_UQ), b); }                            \
    FA_INLINE R R##_where_le(R u, R v, R a, R b)                                                               \
    { return _mm512_mask_blend_##S(_mm512_cmp_##S##_mask(u, v, _CMP_LE_OQ), b, a); }                           \
    FA_INLINE int R##_bits_gt(R u, R v) { return _mm512_cmp_##S##_mask(u, v, _CMP_GT_OQ); }                    \
    FA_INLINE int R##_bits_le(R u, R v) { return _mm512_cmp_##S##_mask(u, v, _CMP_LE_OQ); }
FA_512(r32, float, ps)
FA_512(r64, double, pd)
FA_INLINE r32 r32_where_bits(ptrdiff_t k, r32 a, r32 b) { return _mm512_mask_mov_ps(b, (__mmask16)k, a); }
FA_INLINE r64 r64_where_bits(ptrdiff_t k, r64 a, r64 b) { return _mm512_mask_mov_pd(b, (__mmask8)k, a); }
FA_INLINE r64 r64_zero_where_gt(r64 u, r64 v, r64 a)
{ return _mm512_maskz_mov_pd(_mm512_cmp_pd_mask(u, v, _CMP_NGT_UQ), a); }
/* total + a * b under a mask, rounded once. */
FA_INLINE r64 r64_add_product_masked(r64 a, r64 b, r64 total, __mmask16 k)
{ return _mm512_mask3_fmadd_pd(a, b, total, (__mmask8)k); }
FA_INLINE r64 r64_widen(const float *p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
FA_INLINE r64 r64_part(r32 v, int k)
{ return _mm512_cvtps_pd(k ? _mm512_extractf32x8_ps(v, 1) : _mm512_castps512_ps256(v)); }
FA_INLINE double r64_sum(r64 v)
{
    __m256d q = _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1));
    __m128d d = _mm_add_pd(_mm256_castpd256_pd128(q), _mm256_extractf128_pd(q, 1));
    return _mm_cvtsd_f64(_mm_add_sd(d, _mm_unpackhi_pd(d, d)));
}
FA_INLINE void fa_fence(void) { _mm_sfence(); }

#define FA_HALVES
typedef __m256i h16;
FA_INLINE h16 h16_load(const uint16_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
FA_INLINE h16 h16_load_masked(const uint16_t *p, __mmask16 k) { return _mm256_maskz_loadu_epi16(k, p); }
FA_INLINE void h16_store(uint16_t *p, h16 h) { _mm256_storeu_si256((__m256i *)p, h); }
FA_INLINE void h16_store_masked(uint16_t *p, h16 h, __mmask16 k) { _mm256_mask_storeu_epi16(p, k, h); }
FA_INLINE void h16_stream(uint16_t *p, h16 h) { _mm256_stream_si256((__m256i *)p, h); }
FA_INLINE r32 r32_of_half(h16 h) { return _mm512_cvtph_ps(h); }
FA_INLINE h16 r32_to_half(r32 v) { return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT); }
FA_INLINE r32 r32_of_brain(h16 h) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)); }
/* The indices of the odd 16-bit elements of a register, which are the upper halves of 16 floats. */
#define FA_UPPER_HALVES \
    _mm512_castsi256_si512( \
        _mm256_setr_epi32(0x30001, 0x70005, 0xb0009, 0xf000d, 0x130011, 0x170015, 0x1b0019, 0x1f001d))
/* Rounds to nearest even in integer arithmetic: after an addition of 0x7fff, or of 0x8000 if the upper half is odd, the
   upper half is right.  A NaN is replaced by the default NaN first, since the addition could carry into its sign. */
FA_INLINE h16 r32_to_brain(r32 v)
{
    __m512i bits = _mm512_castps_si512(_mm512_fixupimm_ps(v, v, _mm512_set1_epi32(0x11111133), 0));
    __mmask16 odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
    __m512i sum = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
    __m512i rounded = _mm512_mask_add_epi32(sum, odd, bits, _mm512_set1_epi32(0x8000));
    return _mm512_castsi512_si256(_mm512_permutexvar_epi16(FA_UPPER_HALVES, rounded));
}
