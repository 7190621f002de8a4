/* Conversions of 16-bit floats, float16 (IEEE's, 5 bits of exponent) and bfloat16 (a float's upper half), to floats and
 * back, rounded to nearest even.  They convert one number at a time in bit arithmetic.  For levels without such
 * instructions there is also h16, the W32 numbers that are stored for one register of floats.
 */
#ifndef FASTACT_HALVES_H
#define FASTACT_HALVES_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#include "exact.h"

FA_INLINE float fa_as_float(uint32_t bits)
{
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

FA_INLINE uint32_t fa_bits_of(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

/* A subnormal's value is its bits times 2**-24.  Other numbers get 112 added to the exponent, inf and NaN 224. */
FA_INLINE float fa_half(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = half & 0x7fff;
    uint32_t bits = (rest << 13) + ((rest >= 0x7c00 ? 224u : 112u) << 23);
    if (rest < 0x400) bits = fa_bits_of((float)rest * 0x1p-24f);
    return fa_as_float(bits | sign);
}

FA_INLINE uint16_t fa_to_half(float v)
{
    uint32_t bits = fa_bits_of(v), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    uint32_t normal = (rest - (112u << 23) + 0xfff + (rest >> 13 & 1)) >> 13;
    uint32_t subnormal = fa_bits_of(fa_as_float(rest) + 0.5f) - 0x3f000000;     /* + 0.5 rounds to units of 2**-24 */
    uint32_t large = rest > 0x7f800000 ? 0x7e00 | (rest >> 13 & 0x3ff) : 0x7c00;
    return (uint16_t)(sign | (rest >= 0x47800000 ? large : rest < 0x38800000 ? subnormal : normal));
}

FA_INLINE float fa_brain(uint16_t brain) { return fa_as_float((uint32_t)brain << 16); }

FA_INLINE uint16_t fa_to_brain(float v)
{
    uint32_t bits = fa_bits_of(v);
    uint32_t quiet = bits >> 16 | 0x40, rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
}

/* Converts a double to a float that rounds to the same 16 bits as the double does: cut off, with the last bit set if
   anything was lost ("round to odd": Boldo, Melquiond 2008).  By way of the nearest float it would be rounded twice. */
FA_INLINE float fa_to_odd(double v)
{
    float nearest = (float)v;
    uint32_t bits = fa_bits_of(nearest);
    bits -= fabs((double)nearest) > fabs(v);
    return (double)nearest == v ? nearest : fa_as_float(bits | 1);
}

FA_INLINE uint16_t fa_double_to_half(double v) { return fa_to_half(fa_to_odd(v)); }
FA_INLINE uint16_t fa_double_to_brain(double v) { return fa_to_brain(fa_to_odd(v)); }

#if defined(W32) && !defined(FA_HALVES)
typedef struct { uint16_t of[W32]; } h16;
FA_INLINE h16 h16_load(const uint16_t *p)
{
    h16 h;
    memcpy(&h, p, sizeof h);
    return h;
}
FA_INLINE void h16_store(uint16_t *p, h16 h) { memcpy(p, &h, sizeof h); }
FA_INLINE void h16_stream(uint16_t *p, h16 h) { memcpy(p, &h, sizeof h); }
#define FA_CONVERSIONS(KIND)                                                                                   \
    FA_INLINE r32 r32_of_##KIND(h16 h)                                                                         \
    {                                                                                                          \
        float t[W32];                                                                                          \
        for (int k = 0; k < W32; k++) t[k] = fa_##KIND(h.of[k]);                                               \
        return r32_load(t);                                                                                    \
    }                                                                                                          \
    FA_INLINE h16 r32_to_##KIND(r32 v)                                                                         \
    {                                                                                                          \
        float t[W32];                                                                                          \
        h16 h;                                                                                                 \
        r32_store(t, v);                                                                                       \
        for (int k = 0; k < W32; k++) h.of[k] = fa_to_##KIND(t[k]);                                            \
        return h;                                                                                              \
    }
FA_CONVERSIONS(half)
FA_CONVERSIONS(brain)
#endif

#endif
