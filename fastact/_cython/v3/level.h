/* AVX2: registers of 8 floats or 4 doubles.
 *
 * Measured on a Zen 4 core (AMD EPYC) with operands in L1, in cycles: "latency" is the time until a result can be used,
 * "each" the time per instruction where many do not wait for one another.
 *   word                instruction               latency   each
 *   load                vmovups                              0.5
 *   store               vmovups                                1
 *   mul                 vmulps                          3    0.5
 *   add                 vaddpd                          3    0.5
 *   where_gt, where_le  vcmpps                          2    0.5
 *                       vblendvps                       1    0.5
 *   zero_where_gt       vcmppd as above, vandnpd        1   0.25
 *   widen               vcvtps2pd from memory                0.5
 */

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include "exact.h"
#define W32 8
#define W64 4
#define FA_STREAM_INTEGER
typedef __m256 r32;
typedef __m256d r64;
#define FA_256(R, E, S)                                                                                        \
    FA_INLINE R R##_load(const E *p) { return _mm256_loadu_##S(p); }                                           \
    FA_INLINE void R##_store(E *p, R v) { _mm256_storeu_##S(p, v); }                                           \
    FA_INLINE void R##_stream(E *p, R v) { _mm256_stream_##S(p, v); }                                          \
    FA_INLINE R R##_splat(E s) { return _mm256_set1_##S(s); }                                                  \
    FA_INLINE R R##_mul(R a, R b) { return _mm256_mul_##S(a, b); }                                             \
    FA_INLINE R R##_add(R a, R b) { return _mm256_add_##S(a, b); }                                             \
    FA_INLINE R R##_where_gt(R u, R v, R a, R b)                                                               \
    { return _mm256_blendv_##S(b, a, _mm256_cmp_##S(u, v, _CMP_GT_OQ)); }                                      \
    FA_INLINE R R##_where_le(R u, R v, R a, R b)                                                               \
    { return _mm256_blendv_##S(b, a, _mm256_cmp_##S(u, v, _CMP_LE_OQ)); }                                      \
    FA_INLINE int R##_bits_gt(R u, R v) { return _mm256_movemask_##S(_mm256_cmp_##S(u, v, _CMP_GT_OQ)); }      \
    FA_INLINE int R##_bits_le(R u, R v) { return _mm256_movemask_##S(_mm256_cmp_##S(u, v, _CMP_LE_OQ)); }
FA_256(r32, float, ps)
FA_256(r64, double, pd)
/* The bit for each lane is moved to that lane's sign bit, by which blendv chooses. */
FA_INLINE r32 r32_where_bits(ptrdiff_t k, r32 a, r32 b)
{
    __m256i bits = _mm256_sllv_epi32(_mm256_set1_epi32((int)k), _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24));
    return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(bits));
}
FA_INLINE r64 r64_where_bits(ptrdiff_t k, r64 a, r64 b)
{
    __m256i bits = _mm256_sllv_epi64(_mm256_set1_epi64x((int64_t)k), _mm256_setr_epi64x(63, 62, 61, 60));
    return _mm256_blendv_pd(b, a, _mm256_castsi256_pd(bits));
}
FA_INLINE r64 r64_zero_where_gt(r64 u, r64 v, r64 a) { return _mm256_andnot_pd(_mm256_cmp_pd(u, v, _CMP_GT_OQ), a); }
FA_INLINE r64 r64_widen(const float *p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
FA_INLINE r64 r64_part(r32 v, int k)
{ return _mm256_cvtps_pd(k ? _mm256_extractf128_ps(v, 1) : _mm256_castps256_ps128(v)); }
FA_INLINE double r64_sum(r64 v)
{
    __m128d d = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(d, _mm_unpackhi_pd(d, d)));
}
FA_INLINE void fa_fence(void) { _mm_sfence(); }

#define FA_HALVES
typedef __m128i h16;
FA_INLINE h16 h16_load(const uint16_t *p) { return _mm_loadu_si128((const __m128i *)p); }
FA_INLINE void h16_store(uint16_t *p, h16 h) { _mm_storeu_si128((__m128i *)p, h); }
FA_INLINE void h16_stream(uint16_t *p, h16 h) { _mm_stream_si128((__m128i *)p, h); }
FA_INLINE r32 r32_of_half(h16 h) { return _mm256_cvtph_ps(h); }
FA_INLINE h16 r32_to_half(r32 v) { return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT); }
FA_INLINE r32 r32_of_brain(h16 h) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)); }
/* Rounds to nearest even in integer arithmetic.  A NaN is made quiet instead. */
FA_INLINE h16 r32_to_brain(r32 v)
{
    __m256i bits = _mm256_castps_si256(v), upper = _mm256_srli_epi32(bits, 16);
    __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
    __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, odd), _mm256_set1_epi32(0x7fff)), 16);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    rounded = _mm256_blendv_epi8(rounded, _mm256_or_si256(upper, _mm256_set1_epi32(0x40)), nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
}
