/* What the pool (pool.h), the OpenMP lookup (openmp.h), the recycled memory (buffers.pyx) and the tasks of a host
   (interface.h) need from the system: a clock, a pause, locks, threads, memory, and a call at each fork.

   Each section has a POSIX version and a Win32 version.  The Win32 version is meant for clang-cl; docs/reliability.md
   says how much of it was tried.  Atomic operations need nothing here: GCC, Clang and clang-cl have the same builtins,
   and the kernels' vector types need one of these compilers anyway. */

#ifndef FASTACT_SYSTEM_H
#define FASTACT_SYSTEM_H

#include <stddef.h>
#if defined(_WIN32)
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#include <malloc.h>
#include <process.h>
#include <string.h>
#define strncasecmp _strnicmp
#else
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#endif

/* ---- the clock and the pause ------------------------------------------------------------------------------------- */

/* The coarse clock takes less time to read than the other one, but it advances in steps.  On Linux a step takes 4 ms or
   less, on Windows 16 ms. */
#if defined(_WIN32)
typedef enum { FA_CLOCK, FA_COARSE_CLOCK } fa_clock;
#else
typedef clockid_t fa_clock;
#define FA_CLOCK CLOCK_MONOTONIC
#ifdef CLOCK_MONOTONIC_COARSE
#define FA_COARSE_CLOCK CLOCK_MONOTONIC_COARSE
#else
#define FA_COARSE_CLOCK CLOCK_MONOTONIC
#endif
#endif

/* The time in nanoseconds, by FA_CLOCK or FA_COARSE_CLOCK. */
static inline long long fa_now(fa_clock clock)
{
#if defined(_WIN32)
    LARGE_INTEGER ticks, second;
    if (clock == FA_COARSE_CLOCK) return (long long)GetTickCount64() * 1000000;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&second);
    return ticks.QuadPart / second.QuadPart * 1000000000
           + ticks.QuadPart % second.QuadPart * 1000000000 / second.QuadPart;
#else
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
#endif
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

/* ---- forks ------------------------------------------------------------------------------------------------------- */

/* Has functions called before and after each fork, by C code or by Python; returns 0 or an error number.  Windows has
   no forks. */
static inline int fa_at_fork(void (*before)(void), void (*in_parent)(void), void (*in_child)(void))
{
#if defined(_WIN32)
    (void)before, (void)in_parent, (void)in_child;
    return 0;
#else
    return pthread_atfork(before, in_parent, in_child);
#endif
}

/* ---- locks and threads ------------------------------------------------------------------------------------------- */

#if defined(_WIN32)
typedef SRWLOCK fa_mutex;
typedef CONDITION_VARIABLE fa_condition;
#define FA_MUTEX SRWLOCK_INIT
static inline void fa_mutex_init(fa_mutex *mutex) { InitializeSRWLock(mutex); }
static inline void fa_mutex_lock(fa_mutex *mutex) { AcquireSRWLockExclusive(mutex); }
static inline void fa_mutex_unlock(fa_mutex *mutex) { ReleaseSRWLockExclusive(mutex); }
static inline void fa_condition_init(fa_condition *changed) { InitializeConditionVariable(changed); }
static inline void fa_condition_wait(fa_condition *changed, fa_mutex *mutex)
{
    SleepConditionVariableSRW(changed, mutex, INFINITE, 0);
}
static inline void fa_condition_broadcast(fa_condition *changed) { WakeAllConditionVariable(changed); }

#define FA_THREAD unsigned __stdcall    /* what a thread's function returns: 0 */
typedef unsigned (__stdcall *fa_thread)(void *);

/* Starts a thread that nobody waits for, with a stack of so many bytes; returns whether that was possible. */
static inline int fa_start_thread(fa_thread run, void *argument, size_t stack)
{
    HANDLE thread = (HANDLE)_beginthreadex(NULL, (unsigned)stack, run, argument, STACK_SIZE_PARAM_IS_A_RESERVATION,
                                           NULL);
    if (!thread) return 0;
    CloseHandle(thread);
    return 1;
}

/* The number of processors that the process may use. */
static inline int fa_system_processors(void)
{
    DWORD_PTR mask = 0, all;
    GetProcessAffinityMask(GetCurrentProcess(), &mask, &all);
    /* The mask is 0 in a process with threads in several groups of 64 processors. */
    return mask ? __builtin_popcountll(mask) : (int)GetActiveProcessorCount(ALL_PROCESSOR_GROUPS);
}
#else
typedef pthread_mutex_t fa_mutex;
typedef pthread_cond_t fa_condition;
#define FA_MUTEX PTHREAD_MUTEX_INITIALIZER
static inline void fa_mutex_init(fa_mutex *mutex) { pthread_mutex_init(mutex, NULL); }
static inline void fa_mutex_lock(fa_mutex *mutex) { pthread_mutex_lock(mutex); }
static inline void fa_mutex_unlock(fa_mutex *mutex) { pthread_mutex_unlock(mutex); }
static inline void fa_condition_init(fa_condition *changed) { pthread_cond_init(changed, NULL); }
static inline void fa_condition_wait(fa_condition *changed, fa_mutex *mutex) { pthread_cond_wait(changed, mutex); }
static inline void fa_condition_broadcast(fa_condition *changed) { pthread_cond_broadcast(changed); }

#define FA_THREAD void *
typedef void *(*fa_thread)(void *);

static inline int fa_start_thread(fa_thread run, void *argument, size_t stack)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t blocked, before;
    int failed;
    if (pthread_attr_init(&attributes)) return 0;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, stack);
    /* Signals are for the threads that Python knows, so helpers block them, except those that report a fault of the
       thread itself.  A new thread inherits what the thread that starts it blocks. */
    sigfillset(&blocked);
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGILL);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    failed = pthread_create(&thread, &attributes, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return !failed;
}

static inline int fa_system_processors(void) { return (int)sysconf(_SC_NPROCESSORS_ONLN); }
#endif

/* Every module that includes this file has one lock of its own.  The module hands fa_lock and a function that calls
   fa_unlock to fa_at_fork, so that a fork waits until the lock is free.  Without that, another thread of the parent
   could hold the lock at the fork.  The child does not have that thread, and would wait for the lock for ever. */
static fa_mutex fa_module_mutex = FA_MUTEX;
static inline void fa_lock(void) { fa_mutex_lock(&fa_module_mutex); }
static inline void fa_unlock(void) { fa_mutex_unlock(&fa_module_mutex); }

/* ---- aligned memory and pages ------------------------------------------------------------------------------------ */

#if defined(_WIN32)
static inline void *fa_aligned(size_t alignment, size_t n) { return _aligned_malloc(n, alignment); }
static inline void fa_free_aligned(void *p) { _aligned_free(p); }

static inline size_t fa_page_size(void)
{
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    return info.dwPageSize;
}

static inline char *fa_map(size_t n)
{
    return (char *)VirtualAlloc(NULL, n, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}

/* Huge pages need a privilege that few users have. */
static inline void fa_want_huge_pages(void *p, size_t n) { (void)p, (void)n; }

/* Windows does not take back a part of a mapping.  The part stays mapped, but the system may drop what it holds. */
static inline int fa_cut(void *p, size_t n)
{
    VirtualAlloc(p, n, MEM_RESET, PAGE_READWRITE);
    return 0;
}

/* A mapping is given back by the address where it began, which may lie before p if fa_cut has cut the front. */
static inline int fa_unmap(void *p, size_t n)
{
    MEMORY_BASIC_INFORMATION mapping;
    (void)n;
    return VirtualQuery(p, &mapping, sizeof mapping) && VirtualFree(mapping.AllocationBase, 0, MEM_RELEASE);
}
#else
#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif
/* Memory of the heap that begins at a multiple of `alignment`, or NULL. */
static inline void *fa_aligned(size_t alignment, size_t n)
{
    void *p;
    return posix_memalign(&p, alignment, n) ? NULL : p;
}
static inline void fa_free_aligned(void *p) { free(p); }

static inline size_t fa_page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

/* New pages, or NULL. */
static inline char *fa_map(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : (char *)p;
}

/* Asks for huge pages (2 MB each).  If the system refuses, the memory is slower and otherwise the same. */
static inline void fa_want_huge_pages(void *p, size_t n)
{
#ifdef MADV_HUGEPAGE
    (void)madvise(p, n, MADV_HUGEPAGE);
#else
    (void)p, (void)n;
#endif
}

/* Unmaps what fa_map returned, or what fa_cut left of it; returns whether that was possible.  To the system, adjacent
   mappings are one mapping, and it may refuse to split it.  Then the memory stays mapped, but its pages are given
   back. */
static inline int fa_unmap(void *p, size_t n)
{
    if (!munmap(p, n)) return 1;
#ifdef MADV_DONTNEED
    (void)madvise(p, n, MADV_DONTNEED);
#endif
    return 0;
}

/* The same for the front or the end of a mapping.  If it is not possible, the memory can still be used. */
static inline int fa_cut(void *p, size_t n) { return fa_unmap(p, n); }
#endif

#endif
