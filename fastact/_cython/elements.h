/* Elements of every dtype of fastact.h: how many bytes they take, and how they are read as floats or doubles. */

#ifndef FASTACT_ELEMENTS_H
#define FASTACT_ELEMENTS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "fastact.h"

#define FA_DTYPES(F) \
    F(FASTACT_FLOAT32, float, "float32") \
    F(FASTACT_FLOAT64, double, "float64") \
    F(FASTACT_BOOL, unsigned char, "bool") \
    F(FASTACT_INT8, int8_t, "int8") \
    F(FASTACT_INT16, int16_t, "int16") \
    F(FASTACT_INT32, int32_t, "int32") \
    F(FASTACT_INT64, int64_t, "int64") \
    F(FASTACT_UINT8, uint8_t, "uint8") \
    F(FASTACT_UINT16, uint16_t, "uint16") \
    F(FASTACT_UINT32, uint32_t, "uint32") \
    F(FASTACT_UINT64, uint64_t, "uint64")

static const char *fa_dtype_name(int dtype)
{
#define FA_NAME(code, T, name) case code: return name;
    switch (dtype & ~FA_SWAPPED) {
        FA_DTYPES(FA_NAME)
        case FASTACT_FLOAT16: return "float16";
        case FASTACT_BFLOAT16: return "bfloat16";
    }
#undef FA_NAME
    return NULL;
}

static inline ptrdiff_t fa_itemsize(int dtype)
{
#define FA_SIZE(code, T, name) case code: return sizeof(T);
    switch (dtype & ~FA_SWAPPED) {
        FA_DTYPES(FA_SIZE)
        case FASTACT_FLOAT16: return 2;
    }
#undef FA_SIZE
    return 0;
}

static inline void fa_swap(void *element, size_t size)
{
    uint16_t two;
    uint32_t four;
    uint64_t eight;
#define FA_SWAP(n, of, swap) if (size == n) { memcpy(&of, element, n); of = swap(of); memcpy(element, &of, n); }
    FA_SWAP(2, two, __builtin_bswap16)
    FA_SWAP(4, four, __builtin_bswap32)
    FA_SWAP(8, eight, __builtin_bswap64)
#undef FA_SWAP
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

/* Reads n elements that lie `stride` bytes apart (at any address) and writes them one after the other as doubles or
   floats, converted as NumPy converts them.  With a constant stride the compiler makes vector instructions. */
#define FA_SAME(v) (v)
#define FA_CONVERT(T, To, step, swap, value) \
    for (i = 0; i < n; i++) { \
        T v; \
        memcpy(&v, p + i * (step), sizeof v); \
        if (swap) fa_swap(&v, sizeof v); \
        ((To *)out)[i] = (To)value(v); \
    }
#define FA_CONVERT_TO(T, To, value) \
    if (dtype & FA_SWAPPED && stride == (ptrdiff_t)sizeof(T)) FA_CONVERT(T, To, (ptrdiff_t)sizeof(T), 1, value) \
    else if (dtype & FA_SWAPPED) FA_CONVERT(T, To, stride, 1, value) \
    else if (stride == (ptrdiff_t)sizeof(T)) FA_CONVERT(T, To, (ptrdiff_t)sizeof(T), 0, value) \
    else if (stride == -(ptrdiff_t)sizeof(T)) FA_CONVERT(T, To, -(ptrdiff_t)sizeof(T), 0, value) \
    else if (stride == 2 * (ptrdiff_t)sizeof(T)) FA_CONVERT(T, To, 2 * (ptrdiff_t)sizeof(T), 0, value) \
    else if (stride == 0) FA_CONVERT(T, To, 0, 0, value) \
    else FA_CONVERT(T, To, stride, 0, value)
static void fa_load(void *out, int doubles, const char *p, ptrdiff_t stride, ptrdiff_t n, int dtype)
{
    ptrdiff_t i;
#define FA_LOAD(code, T, value) \
    case code: \
        if (doubles) { FA_CONVERT_TO(T, double, value) } \
        else { FA_CONVERT_TO(T, float, value) } \
        break;
#define FA_LOAD_NUMBER(code, T, name) FA_LOAD(code, T, FA_SAME)
    switch (dtype & ~FA_SWAPPED) {
        FA_DTYPES(FA_LOAD_NUMBER)
        FA_LOAD(FASTACT_FLOAT16, uint16_t, fa_half)
    }
#undef FA_LOAD_NUMBER
#undef FA_LOAD
}
#undef FA_SAME
#undef FA_CONVERT_TO
#undef FA_CONVERT

/* Copies n elements, without a conversion, from one stride to another. */
static inline void fa_copy(char *out, ptrdiff_t out_stride, const char *in, ptrdiff_t in_stride, ptrdiff_t n, int size)
{
    ptrdiff_t i;
#define FA_COPY(to, from, bytes) for (i = 0; i < n; i++) memcpy(out + i * (to), in + i * (from), bytes)
    if (out_stride == size && in_stride == size) memcpy(out, in, n * size);
    else if (size == 4 && in_stride == 4) FA_COPY(out_stride, 4, 4);
    else if (size == 4) FA_COPY(out_stride, in_stride, 4);
    else if (size == 8) FA_COPY(out_stride, in_stride, 8);
    else FA_COPY(out_stride, in_stride, size);
#undef FA_COPY
}

/* Writes n sums, rounded to a float dtype, `stride` bytes apart. */
static inline void fa_round(char *out, ptrdiff_t stride, const double *sums, ptrdiff_t n, int dtype)
{
    ptrdiff_t i;
    for (i = 0; i < n; i++) {
        if (dtype == FASTACT_FLOAT32) {
            float v = (float)sums[i];
            memcpy(out + i * stride, &v, sizeof v);
        }
        else memcpy(out + i * stride, &sums[i], sizeof *sums);
    }
}

#endif
