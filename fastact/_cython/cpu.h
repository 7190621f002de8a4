/* The SIMD level of the processor: the last one of the table that has everything the compiler may use for it.

   GCC and Clang have a builtin that says what the processor has.  Under clang-cl the builtin needs a library that is
   not linked there, so the instructions cpuid and xgetbv are used.  FASTACT_PLAIN_CPUID selects these for a test. */

#ifndef FASTACT_CPU_H
#define FASTACT_CPU_H

#include "tables.h"

#if !defined(__x86_64__)
#define FA_HAS(feature) 0
#define FA_INIT() ((void)0)
#elif defined(__GNUC__) && !defined(FASTACT_PLAIN_CPUID)
#define FA_HAS(feature) __builtin_cpu_supports(feature)
#define FA_INIT() __builtin_cpu_init()
#else
#include <string.h>
#define FA_HAS(feature) fa_has(feature)
#define FA_INIT() ((void)0)

static void fa_cpuid(unsigned leaf, unsigned *registers)    /* eax, ebx, ecx, edx */
{
    __asm__ volatile("cpuid" : "=a"(registers[0]), "=b"(registers[1]), "=c"(registers[2]), "=d"(registers[3])
                             : "a"(leaf), "c"(0));
}

/* Whether the processor has a feature, and the system saves the registers that it uses (`kept`: bits of the register
   XCR0).  The answer is 0 for a name that is not listed. */
static int fa_has(const char *feature)
{
    enum { EBX = 1, ECX, AVX = 0x06, AVX512 = 0xe6, OSXSAVE = 27 };
    static const struct { const char *name; int leaf, from, bit; unsigned kept; } features[] = {
        {"sse3", 1, ECX, 0, 0}, {"ssse3", 1, ECX, 9, 0}, {"sse4.1", 1, ECX, 19, 0}, {"sse4.2", 1, ECX, 20, 0},
        {"popcnt", 1, ECX, 23, 0}, {"fma", 1, ECX, 12, AVX}, {"avx", 1, ECX, 28, AVX}, {"avx2", 7, EBX, 5, AVX},
        {"bmi", 7, EBX, 3, 0}, {"bmi2", 7, EBX, 8, 0}, {"avx512f", 7, EBX, 16, AVX512},
        {"avx512dq", 7, EBX, 17, AVX512}, {"avx512cd", 7, EBX, 28, AVX512}, {"avx512bw", 7, EBX, 30, AVX512},
        {"avx512vl", 7, EBX, 31, AVX512},
    };
    unsigned basic[4], registers[4], kept = 0, high;
    size_t i;
    fa_cpuid(1, basic);
    if (basic[ECX] >> OSXSAVE & 1) __asm__ volatile("xgetbv" : "=a"(kept), "=d"(high) : "c"(0));
    for (i = 0; i < sizeof features / sizeof *features; i++) {
        if (strcmp(features[i].name, feature)) continue;
        fa_cpuid(0, registers);
        if (registers[0] < (unsigned)features[i].leaf) return 0;
        fa_cpuid((unsigned)features[i].leaf, registers);
        return (registers[features[i].from] >> features[i].bit & 1) && (kept & features[i].kept) == features[i].kept;
    }
    return 0;
}
#endif

#define FA_LEVEL_OR_LESS(name, has) if (!(has)) return level; level = name;
static const char *fa_cpu_level(void)
{
    const char *level = "generic";
    FA_INIT();
    FA_LEVELS(FA_LEVEL_OR_LESS, FA_HAS)
    return level;
}

#endif
