/* What the words of _integers.py (integer_words.pxi) need from C and from a SIMD level. */

#ifndef FASTACT_INTEGERS_H
#define FASTACT_INTEGERS_H

#include <stdint.h>
#include <string.h>

#include "exact.h"
#include "tables.h"
#include "level.h"

#if defined(__GNUC__) || defined(__clang__)
#define fa_stream_buffer() __builtin_alloca_with_align(STREAM_LINES * LINE, 8 * LINE)
#else
#include <malloc.h>
#define fa_stream_buffer() _alloca(STREAM_LINES * LINE)
#endif

/* Copies n cache lines past the caches.  It uses registers of floats, which copy any bits unchanged. */
FA_INLINE void fa_stream_lines(void *to, const void *from, ptrdiff_t n)
{
#if W32 > 1
    for (ptrdiff_t i = 0; i < n * (LINE / (ptrdiff_t)sizeof(float)); i += W32)
        r32_stream((float *)to + i, r32_load((const float *)from + i));
#else
    memcpy(to, from, n * LINE);
#endif
}

#endif
