/* Teams of threads: a caller and helpers from one pool of the process's own, of fixed places and without a heap.

   A helper waits at its place for work, spinning first (a team then starts in 1 to 2 us) and then asleep.  All callers
   share the pool, so that together they keep no more helpers busy than there are processors; who finds none works
   alone.  Not OpenMP's teams: libgomp ends the process where no thread can be started or malloc fails within a team,
   hangs in a forked child, and gives every calling thread a pool of its own.  Here the caller goes on with the helpers
   that could be had, and a child starts with an empty pool. */

#ifndef FASTACT_TEAM_H
#define FASTACT_TEAM_H

#include "exact.h"

typedef void (*fa_share)(const void *work, int share, int shares);

#if defined(__unix__) || defined(__APPLE__)
#include <ctype.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

enum {
    FA_PLACES = 1023,           /* helpers, at most */
    FA_STACK = 512 << 10,       /* bytes: kernels take a few KB; 8 MB, the usual, are hard to have in a tight space */
    FA_PAUSES = 64,             /* between two looks at the clock */
    FA_RUDE_NS = 20000,         /* spinning that long before giving way to other threads at every look ... */
    FA_SPIN_NS = 4000000,       /* ... and that long in all, as libgomp: waking a sleeper costs its caller 13 us */
};
enum { FA_EMPTY, FA_IDLE, FA_TAKEN, FA_WORK, FA_BUSY, FA_DONE };

/* How a thread rounds, and whether it flushes denormals: a helper works in its caller's mode, whoever started it. */
#if defined(__x86_64__) || defined(__i386__)
typedef unsigned fa_mode;
static inline fa_mode fa_get_mode(void) { return __builtin_ia32_stmxcsr() & ~0x3fu; }   /* without what has happened */
static inline void fa_set_mode(fa_mode mode) { __builtin_ia32_ldmxcsr(mode); }
#elif defined(__aarch64__)
typedef unsigned long fa_mode;
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

struct fa_place {
    int state;
    int sleepers;               /* of the helper and its caller, those that sleep until `state` changes */
    int share, shares;
    fa_share run;
    const void *work;
    fa_mode mode;
    char lines[88];             /* a place to itself: processors fetch lines in pairs */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
#ifdef __linux__
    pid_t thread;
    int sent, barred;           /* to wake up on another processor than this one; `cpus` are all that it may use */
    cpu_set_t cpus;
#endif
} __attribute__((aligned(128)));

struct fa_team {
    int helpers;
    short place[FA_PLACES];
};

static struct fa_place fa_pool[FA_PLACES];
static int fa_spin_ns = FA_SPIN_NS;

static inline void fa_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

static long long fa_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Linux may wake a thread where its waker runs (a virtual machine's halted processor counts as preempted, and some
   kernels pack threads on few of them), and there it waits behind its caller until the load is balanced 4 to 8 ms
   later.  So it is barred from the caller's processor until it runs. */
static void fa_send(struct fa_place *p)
{
#ifdef __linux__
    cpu_set_t others;
    int here = sched_getcpu();
    if (here < 0 || here >= CPU_SETSIZE || (p->sent && p->barred == here)) return;
    /* Sent before and not there yet, it is sent again if its caller has moved. */
    if (!p->sent && sched_getaffinity(p->thread, sizeof p->cpus, &p->cpus)) return;
    others = p->cpus;
    CPU_CLR(here, &others);
    if (!CPU_COUNT(&others) || sched_setaffinity(p->thread, sizeof others, &others)) return;
    p->sent = 1;
    p->barred = here;
#else
    (void)p;
#endif
}

static void fa_arrive(struct fa_place *p)
{
#ifdef __linux__
    if (p->sent) sched_setaffinity(p->thread, sizeof p->cpus, &p->cpus);
    p->sent = 0;
#else
    (void)p;
#endif
}

/* A change that the other side may wait for: no sleeper is missed, since both sides write before they read. */
static void fa_set(struct fa_place *p, int state)
{
    __atomic_store_n(&p->state, state, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&p->sleepers, __ATOMIC_SEQ_CST)) {
        pthread_mutex_lock(&p->mutex);
        if (state == FA_WORK && __atomic_load_n(&p->sleepers, __ATOMIC_RELAXED)) fa_send(p);     /* it may be up by now */
        pthread_cond_broadcast(&p->changed);
        pthread_mutex_unlock(&p->mutex);
    }
}

static void fa_await(struct fa_place *p, int state)
{
    long long start, spent;
    int pauses;
    for (;;) {
        start = 0;
        do {
            for (pauses = 0; pauses < FA_PAUSES; pauses++) {
                if (__atomic_load_n(&p->state, __ATOMIC_ACQUIRE) == state) return;
                fa_pause();
            }
            spent = fa_now();
            if (!start) start = spent;
            spent -= start;
            if (spent > FA_RUDE_NS) sched_yield();
        } while (spent < fa_spin_ns);
        /* Woken in vain (its caller did the work by itself) it spins again: the next call may be near. */
        pthread_mutex_lock(&p->mutex);
        __atomic_add_fetch(&p->sleepers, 1, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&p->state, __ATOMIC_SEQ_CST) != state) pthread_cond_wait(&p->changed, &p->mutex);
        __atomic_sub_fetch(&p->sleepers, 1, __ATOMIC_SEQ_CST);
        if (state == FA_WORK) fa_arrive(p);
        pthread_mutex_unlock(&p->mutex);
    }
}

static int fa_change(struct fa_place *p, int from, int to)
{
    return __atomic_load_n(&p->state, __ATOMIC_RELAXED) == from &&
           __atomic_compare_exchange_n(&p->state, &from, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static void *fa_help(void *place)
{
    struct fa_place *p = place;
#ifdef __linux__
    p->thread = (pid_t)syscall(SYS_gettid);
#endif
    for (;;) {
        fa_await(p, FA_WORK);
        if (!fa_change(p, FA_WORK, FA_BUSY)) continue;
        if (p->mode != fa_get_mode()) fa_set_mode(p->mode);
        p->run(p->work, p->share, p->shares);
        fa_set(p, FA_DONE);
    }
    return NULL;
}

static int fa_start(struct fa_place *p)
{
    pthread_attr_t small;
    pthread_t thread;
    sigset_t ours, before;
    int failed;
    if (pthread_attr_init(&small)) return 0;
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->changed, NULL);
    pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&small, FA_STACK);
    /* Signals are for the threads that Python knows; what a thread brings on itself stays its own. */
    sigfillset(&ours);
    sigdelset(&ours, SIGSEGV);
    sigdelset(&ours, SIGBUS);
    sigdelset(&ours, SIGFPE);
    sigdelset(&ours, SIGILL);
    pthread_sigmask(SIG_SETMASK, &ours, &before);
    failed = pthread_create(&thread, &small, fa_help, p);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&small);
    return !failed;
}

/* Up to `wanted` helpers out of the first `bound` places; those that are there before new ones. */
static void fa_gather(struct fa_team *team, int wanted, int bound)
{
    int i, n = 0, fresh;
    if (bound > FA_PLACES) bound = FA_PLACES;
    for (fresh = 0; fresh < 2; fresh++)
        for (i = 0; i < bound && n < wanted; i++) {
            if (!fa_change(&fa_pool[i], fresh ? FA_EMPTY : FA_IDLE, FA_TAKEN)) continue;
            if (fresh && !fa_start(&fa_pool[i])) {
                __atomic_store_n(&fa_pool[i].state, FA_EMPTY, __ATOMIC_RELEASE);
                wanted = n;     /* the next would fail as well */
                break;
            }
            team->place[n++] = (short)i;
        }
    team->helpers = n;
}

/* One share each, the caller's is the first.  Then it takes those that nobody has begun: a sleeper needs 35 us to wake
   up, which are 2 MB of relu in a cache, and one whose processor is taken needs more. */
static void fa_run(const struct fa_team *team, fa_share run, const void *work)
{
    int i, shares = team->helpers + 1;
    const fa_mode mode = shares > 1 ? fa_get_mode() : 0;
    for (i = 0; i < team->helpers; i++) {
        struct fa_place *p = &fa_pool[team->place[i]];
        p->run = run;
        p->work = work;
        p->share = i + 1;
        p->shares = shares;
        p->mode = mode;
        fa_set(p, FA_WORK);
    }
    run(work, 0, shares);
    for (i = team->helpers - 1; i >= 0; i--)
        if (fa_change(&fa_pool[team->place[i]], FA_WORK, FA_TAKEN)) run(work, i + 1, shares);
    for (i = 0; i < team->helpers; i++) {
        struct fa_place *p = &fa_pool[team->place[i]];
        if (__atomic_load_n(&p->state, __ATOMIC_RELAXED) != FA_TAKEN) fa_await(p, FA_DONE);
    }
}

static void fa_dismiss(const struct fa_team *team)
{
    int i;
    for (i = 0; i < team->helpers; i++)
        __atomic_store_n(&fa_pool[team->place[i]].state, FA_IDLE, __ATOMIC_RELEASE);
}

/* A child of a fork (of any kind, so not Python's hook) has none of these threads, and nobody who holds their locks. */
static void fa_in_child(void)
{
    int i;
    for (i = 0; i < FA_PLACES; i++)
        if (fa_pool[i].state != FA_EMPTY) memset(&fa_pool[i], 0, sizeof fa_pool[i]);
}

/* Once, before the first team. */
static int fa_prepare(void)
{
    const char *policy = getenv("OMP_WAIT_POLICY");     /* what people know for this from OpenMP */
    while (policy && isspace((unsigned char)*policy)) policy++;
    if (policy && !strncasecmp(policy, "passive", 7)) fa_spin_ns = 0;
    return pthread_atfork(NULL, NULL, fa_in_child);
}

/* The processors that the calling thread may use.  Asked once in a tick of the coarse clock (4 ms or less): the system
   call takes 0.3 us, the smallest work that two threads share 3 us. */
static int fa_processors(void)
{
#ifdef __linux__
    static __thread struct timespec asked;
    static __thread int found;
    struct timespec now;
    cpu_set_t set;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    if (!found || now.tv_nsec != asked.tv_nsec || now.tv_sec != asked.tv_sec) {
        asked = now;
        found = sched_getaffinity(0, sizeof set, &set) ? (int)sysconf(_SC_NPROCESSORS_ONLN) : CPU_COUNT(&set);
    }
    return found > 0 ? found : 1;
#else
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
#endif
}

#else       /* no POSIX threads: everybody works alone */
static int fa_processors(void) { return 1; }
struct fa_team { int helpers; };
static void fa_gather(struct fa_team *team, int wanted, int bound) { team->helpers = 0; }
static void fa_run(const struct fa_team *team, fa_share run, const void *work) { run(work, 0, 1); }
static void fa_dismiss(const struct fa_team *team) { }
static int fa_prepare(void) { return 0; }
#endif

#endif
