/* SSE4.2: registers of 4 floats or 2 doubles.  SSE has no quiet ordered "greater"; the signalling one differs only in a
 * status flag that nobody reads.
 *
 * Measured on a Zen 4 core (AMD EPYC) with operands in L1, in cycles: "latency" is the time until a result can be used,
 * "each" the time per instruction where many do not wait for one another.
 *   word                instruction               latency   each
 *   load                movups                               0.5
 *   store               movups                                 1
 *   mul                 mulps                           3    0.5
 *   add                 addpd                           3    0.5
 *   where_gt, where_le  cmpltps, cmpleps                2    0.5
 *                       blendvps                        1    0.5
 *   zero_where_gt       cmpltpd as above, andnpd        1   0.25
 *   widen               cvtps2pd from memory                 0.5
 */

#include <nmmintrin.h>
#include <stddef.h>
#include <stdint.h>
#include "exact.h"
#define W32 4
#define W64 2
#define FA_STREAM_INTEGER
typedef __m128 r32;
typedef __m128d r64;
#define FA_128(R, E, S)                                                                                        \
    FA_INLINE R R##_load(const E *p) { return _mm_loadu_##S(p); }                                              \
    FA_INLINE void R##_store(E *p, R v) { _mm_storeu_##S(p, v); }                                              \
    FA_INLINE void R##_stream(E *p, R v) { _mm_stream_##S(p, v); }                                             \
    FA_INLINE R R##_splat(E s) { return _mm_set1_##S(s); }                                                     \
    FA_INLINE R R##_mul(R a, R b) { return _mm_mul_##S(a, b); }                                                \
    FA_INLINE R R##_add(R a, R b) { return _mm_add_##S(a, b); }                                                \
    FA_INLINE R R##_where_gt(R u, R v, R a, R b) { return _mm_blendv_##S(b, a, _mm_cmplt_##S(v, u)); }         \
    FA_INLINE R R##_where_le(R u, R v, R a, R b) { return _mm_blendv_##S(b, a, _mm_cmple_##S(u, v)); }         \
    FA_INLINE int R##_bits_gt(R u, R v) { return _mm_movemask_##S(_mm_cmplt_##S(v, u)); }                      \
    FA_INLINE int R##_bits_le(R u, R v) { return _mm_movemask_##S(_mm_cmple_##S(u, v)); }
FA_128(r32, float, ps)
FA_128(r64, double, pd)
/* The bit for each lane is moved to that lane's sign bit, by which blendv chooses. */
FA_INLINE r32 r32_where_bits(ptrdiff_t k, r32 a, r32 b)
{
    __m128i bits = _mm_mullo_epi32(_mm_set1_epi32((int)k), _mm_setr_epi32(INT32_MIN, 1 << 30, 1 << 29, 1 << 28));
    return _mm_blendv_ps(b, a, _mm_castsi128_ps(bits));
}
FA_INLINE r64 r64_where_bits(ptrdiff_t k, r64 a, r64 b)
{
    __m128i bits = _mm_set_epi64x((int64_t)((uint64_t)k << 62), (int64_t)((uint64_t)k << 63));
    return _mm_blendv_pd(b, a, _mm_castsi128_pd(bits));
}
FA_INLINE r64 r64_zero_where_gt(r64 u, r64 v, r64 a) { return _mm_andnot_pd(_mm_cmplt_pd(v, u), a); }
FA_INLINE r64 r64_widen(const float *p)
{
    return _mm_cvtps_pd(_mm_castsi128_ps(_mm_loadl_epi64((const __m128i *)p)));
}
FA_INLINE r64 r64_part(r32 v, int k) { return _mm_cvtps_pd(k ? _mm_movehl_ps(v, v) : v); }
FA_INLINE double r64_sum(r64 v) { return _mm_cvtsd_f64(_mm_add_sd(v, _mm_unpackhi_pd(v, v))); }
FA_INLINE void fa_fence(void) { _mm_sfence(); }

/* SSE has no instructions for 16-bit floats, so this is the arithmetic of halves.h on four numbers at a time.  float16
 * is converted by function calls.  Inlined, those 30 instructions would be in a module hundreds of times (350 KB, not
 * 230). */
#define FA_HALVES
typedef __m128i h16;
#define FA_EACH(n) _mm_set1_epi32(n)
FA_INLINE h16 h16_load(const uint16_t *p) { return _mm_loadl_epi64((const __m128i *)p); }
FA_INLINE void h16_store(uint16_t *p, h16 h) { _mm_storel_epi64((__m128i *)p, h); }
FA_INLINE void h16_stream(uint16_t *p, h16 h) { _mm_storel_epi64((__m128i *)p, h); }
FA_CALLED r32 r32_of_half(h16 h)
{
    __m128i all = _mm_cvtepu16_epi32(h), rest = _mm_and_si128(all, FA_EACH(0x7fff));
    __m128i sign = _mm_slli_epi32(_mm_xor_si128(all, rest), 16);
    __m128i not_finite = _mm_cmpgt_epi32(rest, FA_EACH(0x7bff)), subnormal = _mm_cmplt_epi32(rest, FA_EACH(0x400));
    __m128i moved = _mm_add_epi32(FA_EACH(112 << 23), _mm_and_si128(not_finite, FA_EACH(112 << 23)));
    __m128i bits = _mm_add_epi32(_mm_slli_epi32(rest, 13), moved);
    __m128i small = _mm_castps_si128(_mm_mul_ps(_mm_cvtepi32_ps(rest), _mm_set1_ps(0x1p-24f)));
    return _mm_castsi128_ps(_mm_or_si128(_mm_blendv_epi8(bits, small, subnormal), sign));
}
FA_CALLED h16 r32_to_half(r32 v)
{
    __m128i all = _mm_castps_si128(v), rest = _mm_and_si128(all, FA_EACH(0x7fffffff));
    __m128i sign = _mm_srli_epi32(_mm_xor_si128(all, rest), 16), upper = _mm_srli_epi32(rest, 13);
    __m128i odd = _mm_and_si128(upper, FA_EACH(1)), unit = FA_EACH(0xfff - (112 << 23));
    __m128i normal = _mm_srli_epi32(_mm_add_epi32(_mm_add_epi32(rest, unit), odd), 13);
    __m128i half = _mm_castps_si128(_mm_add_ps(_mm_castsi128_ps(rest), _mm_set1_ps(0.5f)));
    __m128i subnormal = _mm_sub_epi32(half, FA_EACH(0x3f000000));
    __m128i nan = _mm_or_si128(FA_EACH(0x7e00), _mm_and_si128(upper, FA_EACH(0x3ff)));
    __m128i large = _mm_blendv_epi8(FA_EACH(0x7c00), nan, _mm_cmpgt_epi32(rest, FA_EACH(0x7f800000)));
    __m128i found = _mm_blendv_epi8(normal, subnormal, _mm_cmplt_epi32(rest, FA_EACH(0x38800000)));
    found = _mm_blendv_epi8(found, large, _mm_cmpgt_epi32(rest, FA_EACH(0x477fffff)));
    found = _mm_or_si128(found, sign);
    return _mm_packus_epi32(found, found);
}
FA_INLINE r32 r32_of_brain(h16 h) { return _mm_castsi128_ps(_mm_slli_epi32(_mm_cvtepu16_epi32(h), 16)); }
FA_INLINE h16 r32_to_brain(r32 v)
{
    __m128i bits = _mm_castps_si128(v), upper = _mm_srli_epi32(bits, 16);
    __m128i odd = _mm_and_si128(upper, FA_EACH(1));
    __m128i rounded = _mm_srli_epi32(_mm_add_epi32(_mm_add_epi32(bits, odd), FA_EACH(0x7fff)), 16);
    __m128i nan = _mm_castps_si128(_mm_cmpunord_ps(v, v));
    rounded = _mm_blendv_epi8(rounded, _mm_or_si128(upper, FA_EACH(0x40)), nan);
    return _mm_packus_epi32(rounded, rounded);
}
#undef FA_EACH
