/* The floating-point mode of a thread: how it rounds, and whether it replaces denormal numbers by zero.  Every thread
   has a mode of its own.  A thread that computes for another one must take over the other's mode.  On a processor that
   is not listed here the mode is always 0, and setting it does nothing. */

#ifndef FASTACT_FLOAT_MODE_H
#define FASTACT_FLOAT_MODE_H

#if defined(__x86_64__) || defined(__i386__)
typedef unsigned fa_mode;
/* The low six bits are left out: they do not belong to the mode but record the exceptions that have occurred. */
static inline fa_mode fa_get_mode(void) { return __builtin_ia32_stmxcsr() & ~0x3fu; }
static inline void fa_set_mode(fa_mode mode) { __builtin_ia32_ldmxcsr(mode); }
#elif defined(__aarch64__)
typedef unsigned long long fa_mode;
static inline fa_mode fa_get_mode(void)
{
    fa_mode mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
}
static inline void fa_set_mode(fa_mode mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }
#else
typedef int fa_mode;
static inline fa_mode fa_get_mode(void) { return 0; }
static inline void fa_set_mode(fa_mode mode) { (void)mode; }
#endif

#endif
