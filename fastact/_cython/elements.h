/* The dtypes of fastact.h: C types, names and sizes.  C has no type for 16-bit floats: halves.h converts them. */

#ifndef FASTACT_ELEMENTS_H
#define FASTACT_ELEMENTS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "fastact.h"
#include "halves.h"
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
        case FASTACT_FLOAT16: case FASTACT_BFLOAT16: return 2;
    }
#undef FA_SIZE
    return 0;
}

/* Writes n sums, each rounded once to a float dtype.  Steps are in bytes. */
static inline void fa_round(char *out, ptrdiff_t out_step, const double *sums, ptrdiff_t step, ptrdiff_t n, int dtype)
{
    ptrdiff_t i;
    for (i = 0; i < n; i++) {
        double sum = *(const double *)((const char *)sums + i * step);
        float v = (float)sum;
        uint16_t narrow;
        switch (dtype) {
        case FASTACT_FLOAT64: memcpy(out + i * out_step, &sum, sizeof sum); continue;
        case FASTACT_FLOAT32: memcpy(out + i * out_step, &v, sizeof v); continue;
        case FASTACT_FLOAT16: narrow = fa_double_to_half(sum); break;
        default: narrow = fa_double_to_brain(sum);
        }
        memcpy(out + i * out_step, &narrow, sizeof narrow);
    }
}

#endif
