/* Moves elements between arrays of any layout and dense blocks, and converts them.  It computes nothing.
 *
 * entry.pyx compiles this for any processor, and so does each SIMD level's module of integers, for its own vectors.
 * Strides are constants in most loops, so that a compiler can vectorize these.  Elements may lie at any address.
 */

#ifndef FASTACT_BLOCKS_H
#define FASTACT_BLOCKS_H

#include "elements.h"

/* out[r, i] = in[r, i] for `rows` rows of n elements; strides are in bytes. */
struct fa_block {
    char *out;
    const char *in;
    ptrdiff_t rows, n, out_row, out_step, in_row, in_step;
    ptrdiff_t dtype;    /* of the elements of `in`; with SWAPPED fa_move reverses the bytes of each */
    ptrdiff_t doubles;  /* for fa_convert: whether it converts to doubles, else to floats */
};

/* A T at any address.  With memcpy instead, GCC 12 did not vectorize conversions of doubles: an element took 0.54 ns
   instead of 0.09. */
#if defined(__GNUC__) || defined(__clang__)
#define FA_AT(T, p) (*(fa_##T *)(p))
#define FA_ANYWHERE(T) typedef T fa_##T __attribute__((aligned(1), may_alias));
#else
#define FA_AT(T, p) (*(T __unaligned *)(p))
#define FA_ANYWHERE(T)
#endif
FA_ANYWHERE(float) FA_ANYWHERE(double)
FA_ANYWHERE(int8_t) FA_ANYWHERE(int16_t) FA_ANYWHERE(int32_t) FA_ANYWHERE(int64_t)
FA_ANYWHERE(uint8_t) FA_ANYWHERE(uint16_t) FA_ANYWHERE(uint32_t) FA_ANYWHERE(uint64_t)

#define FA_SAME(v) (v)
#define FA_MOVE_ROWS(T, to, from, change) \
    for (r = 0; r < b->rows; r++) { \
        char *restrict out = b->out + r * b->out_row; \
        const char *restrict in = b->in + r * b->in_row; \
        for (i = 0; i < b->n; i++) FA_AT(T, out + i * (to)) = change(FA_AT(T, in + i * (from))); \
    }

#define FA_SPLAT(T, change) \
    for (r = 0; r < b->rows; r++) { \
        char *out = b->out + r * b->out_row; \
        const T v = change(FA_AT(T, b->in + r * b->in_row)); \
        for (i = 0; i < b->n; i++) FA_AT(T, out + i * size) = v; \
    }

/* A transposition, FA_SIDE by FA_SIDE elements at a time: that reads and writes whole cache lines. */
enum { FA_SIDE = 16 };
#define FA_TRANSPOSE(T, change, square) \
    for (ptrdiff_t r0 = 0; r0 < b->rows; r0 += FA_SIDE) \
        for (ptrdiff_t i0 = 0; i0 < b->n; i0 += FA_SIDE) { \
            const char *in = b->in + r0 * size + i0 * b->in_step; \
            char *out = b->out + r0 * b->out_row + i0 * size; \
            ptrdiff_t rows = b->rows - r0, n = b->n - i0; \
            if (rows >= FA_SIDE && n >= FA_SIDE) square(T, change) \
            else FA_ONE_BY_ONE(T, change) \
        }
#define FA_ONE_BY_ONE(T, change) \
    for (r = 0; r < rows && r < FA_SIDE; r++) \
        for (i = 0; i < n && i < FA_SIDE; i++) \
            FA_AT(T, out + r * b->out_row + i * size) = change(FA_AT(T, in + r * size + i * b->in_step));
#define FA_SQUARE FA_ONE_BY_ONE
#define FA_SQUARE_OF_DOUBLES FA_ONE_BY_ONE
#ifdef __has_builtin
#if __has_builtin(__builtin_shufflevector)
/* Four by four elements in vectors of four, and of doubles two by two: an element takes 1 instruction instead of 5. */
#define FA_MIX __builtin_shufflevector
#undef FA_SQUARE
#define FA_SQUARE(T, change) { \
        typedef T four __attribute__((vector_size(4 * sizeof(T)))); \
        for (r = 0; r < FA_SIDE; r += 4) \
            for (i = 0; i < FA_SIDE; i += 4) { \
                const char *p = in + r * size + i * b->in_step; \
                char *q = out + r * b->out_row + i * size; \
                four v[4], ab, cd, AB, CD; \
                for (int k = 0; k < 4; k++) memcpy(&v[k], p + k * b->in_step, sizeof v[k]); \
                ab = FA_MIX(v[0], v[1], 0, 4, 1, 5), AB = FA_MIX(v[0], v[1], 2, 6, 3, 7); \
                cd = FA_MIX(v[2], v[3], 0, 4, 1, 5), CD = FA_MIX(v[2], v[3], 2, 6, 3, 7); \
                v[0] = FA_MIX(ab, cd, 0, 1, 4, 5), v[1] = FA_MIX(ab, cd, 2, 3, 6, 7); \
                v[2] = FA_MIX(AB, CD, 0, 1, 4, 5), v[3] = FA_MIX(AB, CD, 2, 3, 6, 7); \
                for (int k = 0; k < 4; k++) memcpy(q + k * b->out_row, &v[k], sizeof v[k]); \
            } \
    }
#undef FA_SQUARE_OF_DOUBLES
#define FA_SQUARE_OF_DOUBLES(T, change) { \
        typedef T two __attribute__((vector_size(2 * sizeof(T)))); \
        for (r = 0; r < FA_SIDE; r += 2) \
            for (i = 0; i < FA_SIDE; i += 2) { \
                const char *p = in + r * size + i * b->in_step; \
                char *q = out + r * b->out_row + i * size; \
                two u, v, w; \
                memcpy(&u, p, sizeof u), memcpy(&v, p + b->in_step, sizeof v); \
                w = FA_MIX(u, v, 0, 2), v = FA_MIX(u, v, 1, 3); \
                memcpy(q, &w, sizeof w), memcpy(q + b->out_row, &v, sizeof v); \
            } \
    }
#endif
#endif

#define FA_MOVE_AS(T, change, square) \
    { \
        enum { size = sizeof(T) }; \
        if (b->out_step == size && b->in_step == size) FA_MOVE_ROWS(T, size, size, change) \
        else if (b->out_step == size && b->in_step == 0) FA_SPLAT(T, change) \
        else if (b->out_step == size && b->in_row == size) FA_TRANSPOSE(T, change, square) \
        else if (b->out_step == size && b->in_step == -size) FA_MOVE_ROWS(T, size, -size, change) \
        else if (b->out_step == size && b->in_step == 2 * size) FA_MOVE_ROWS(T, size, 2 * size, change) \
        else if (b->in_step == size && b->out_step == -size) FA_MOVE_ROWS(T, -size, size, change) \
        else if (b->out_step == size) FA_MOVE_ROWS(T, size, b->in_step, change) \
        else FA_MOVE_ROWS(T, b->out_step, b->in_step, change) \
    }

static void fa_move(const struct fa_block *given)
{
    struct fa_block block = *given;
    const struct fa_block *b = &block;
    ptrdiff_t size = fa_itemsize((int)b->dtype), r, i;
    /* Where `out` is the transposed one, exchange rows and columns: FA_MOVE_AS knows only a transposed `in`. */
    if (b->out_step != size && b->out_row == size && b->in_step == size && b->in_row) {
        block.rows = given->n, block.n = given->rows;
        block.out_row = given->out_step, block.out_step = given->out_row;
        block.in_row = given->in_step, block.in_step = given->in_row;
    }
    if (b->dtype & SWAPPED)
        switch (size) {
        case 2: FA_MOVE_AS(uint16_t, __builtin_bswap16, FA_ONE_BY_ONE) return;
        case 4: FA_MOVE_AS(uint32_t, __builtin_bswap32, FA_ONE_BY_ONE) return;
        case 8: FA_MOVE_AS(uint64_t, __builtin_bswap64, FA_ONE_BY_ONE) return;
        }
    switch (size) {
    case 1: FA_MOVE_AS(uint8_t, FA_SAME, FA_SQUARE) return;
    case 2: FA_MOVE_AS(uint16_t, FA_SAME, FA_SQUARE) return;
    case 4: FA_MOVE_AS(uint32_t, FA_SAME, FA_SQUARE) return;
    case 8: FA_MOVE_AS(uint64_t, FA_SAME, FA_SQUARE_OF_DOUBLES) return;
    }
}

/* Converts rows of contiguous elements in native byte order to floats or doubles, as NumPy does. */
#define FA_CONVERT(T, To, value) \
    for (r = 0; r < b->rows; r++) { \
        char *restrict out = b->out + r * b->out_row; \
        const char *restrict in = b->in + r * b->in_row; \
        for (i = 0; i < b->n; i++) \
            FA_AT(To, out + i * (ptrdiff_t)sizeof(To)) = (To)value(FA_AT(T, in + i * (ptrdiff_t)sizeof(T))); \
    }
static void fa_convert(const struct fa_block *given)
{
    const struct fa_block block = *given, *b = &block;
    ptrdiff_t r, i;
#define FA_CASE(code, T, value) \
    case code: \
        if (b->doubles) FA_CONVERT(T, double, value) \
        else FA_CONVERT(T, float, value) \
        break;
#define FA_NUMBER(code, T, name) FA_CASE(code, T, FA_SAME)
    switch (b->dtype & ~SWAPPED) {
        FA_DTYPES(FA_NUMBER)
        FA_CASE(FASTACT_FLOAT16, uint16_t, fa_half)
        FA_CASE(FASTACT_BFLOAT16, uint16_t, fa_brain)
    }
#undef FA_NUMBER
#undef FA_CASE
}

/* The inverse: rounds rows of floats to the 16-bit floats of the dtype. */
static void fa_narrow(const struct fa_block *given)
{
    const struct fa_block block = *given, *b = &block;
    ptrdiff_t r, i;
#define FA_ROUND(round) \
    for (r = 0; r < b->rows; r++) { \
        char *restrict out = b->out + r * b->out_row; \
        const char *restrict in = b->in + r * b->in_row; \
        for (i = 0; i < b->n; i++) FA_AT(uint16_t, out + 2 * i) = round(FA_AT(float, in + 4 * i)); \
    }
    if (b->dtype == FASTACT_FLOAT16) FA_ROUND(fa_to_half)
    else FA_ROUND(fa_to_brain)
#undef FA_ROUND
}
#undef FA_CONVERT
#undef FA_MOVE_AS
#undef FA_TRANSPOSE
#undef FA_ONE_BY_ONE
#undef FA_SQUARE
#undef FA_SQUARE_OF_DOUBLES
#undef FA_MIX
#undef FA_SPLAT
#undef FA_MOVE_ROWS
#undef FA_SAME
#undef FA_AT
#undef FA_ANYWHERE

#endif
