/* The dtypes of fastact.h: their C types, their names and their sizes. */

#ifndef FASTACT_ELEMENTS_H
#define FASTACT_ELEMENTS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "fastact.h"
#include "tables.h"

#define FA_DTYPES(F) \
    F(FASTACT_FLOAT32, float, "float32") \
    F(FASTACT_FLOAT64, double, "float64") \
    F(FASTACT_BOOL, uint8_t, "bool") \
    F(FASTACT_INT8, int8_t, "int8") \
    F(FASTACT_INT16, int16_t, "int16") \
    F(FASTACT_INT32, int32_t, "int32") \
    F(FASTACT_INT64, int64_t, "int64") \
    F(FASTACT_UINT8, uint8_t, "uint8") \
    F(FASTACT_UINT16, uint16_t, "uint16") \
    F(FASTACT_UINT32, uint32_t, "uint32") \
    F(FASTACT_UINT64, uint64_t, "uint64")

static inline ptrdiff_t fa_itemsize(int dtype)
{
#define FA_SIZE(code, T, name) case code: return sizeof(T);
    switch (dtype & ~SWAPPED) {
        FA_DTYPES(FA_SIZE)
        case FASTACT_FLOAT16: return 2;
    }
#undef FA_SIZE
    return 0;
}

/* A float16 as a float.  A subnormal's value is its bits times 2**-24; the exponent of others is moved. */
static inline float fa_half(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = half & 0x7fff, bits;
    float v;
    if (rest < 0x400) {
        v = (float)rest * 0x1p-24f;
        memcpy(&bits, &v, sizeof bits);
    }
    else bits = (rest << 13) + ((rest >= 0x7c00 ? 224u : 112u) << 23);
    bits |= sign;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* Writes n sums, rounded to a float dtype; steps are in bytes. */
static inline void fa_round(char *out, ptrdiff_t out_step, const double *sums, ptrdiff_t step, ptrdiff_t n, int dtype)
{
    ptrdiff_t i;
    for (i = 0; i < n; i++) {
        double sum = *(const double *)((const char *)sums + i * step);
        if (dtype == FASTACT_FLOAT32) {
            float v = (float)sum;
            memcpy(out + i * out_step, &v, sizeof v);
        }
        else memcpy(out + i * out_step, &sum, sizeof sum);
    }
}

#endif
