/* What the pool (pool.h), the OpenMP lookup (openmp.h) and the recycled memory (buffers.pyx) need from a POSIX system:
   a clock, a pause, and a lock that is free in a forked child. */

#ifndef FASTACT_POSIX_H
#define FASTACT_POSIX_H

#include <pthread.h>
#include <time.h>

/* The coarse clock takes less time to read than CLOCK_MONOTONIC, but it advances in steps.  On Linux a step takes 4 ms
   or less. */
#ifdef CLOCK_MONOTONIC_COARSE
#define FA_COARSE_CLOCK CLOCK_MONOTONIC_COARSE
#else
#define FA_COARSE_CLOCK CLOCK_MONOTONIC
#endif

/* The time in nanoseconds, by CLOCK_MONOTONIC or FA_COARSE_CLOCK. */
static inline long long fa_now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Tells the processor that this thread is spinning. */
static inline void fa_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

/* Every module that includes this file has one lock of its own.  The module hands fa_lock and a function that calls
   fa_unlock to pthread_atfork, so that a fork waits until the lock is free.  Without that, another thread of the parent
   could hold the lock at the fork.  The child does not have that thread, and would wait for the lock for ever. */
static pthread_mutex_t fa_mutex = PTHREAD_MUTEX_INITIALIZER;
static inline void fa_lock(void) { pthread_mutex_lock(&fa_mutex); }
static inline void fa_unlock(void) { pthread_mutex_unlock(&fa_mutex); }

#endif
