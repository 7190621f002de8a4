/* The pool: threads of the process's own that compute parts of a call.

   caller       a thread that calls a function of this package; there may be several at the same time
   helper       a thread of the pool; it waits for a range, computes it, waits again, and never ends
   worker slot  a helper's place in the pool; it holds the helper's state and its range
   team         a caller and the helpers that it has taken for one call
   range        the part of the call's work that one thread of the team computes; the caller's has the index 0
   to spin      to wait by reading the state again and again, without sleeping

   A helper that has no range spins at first, because a team of spinning helpers starts in 1 to 2 us.  After 4 ms it
   goes to sleep.  A call with less than `bytes_to_wake` of traffic leaves a sleeping helper asleep, unless it follows
   such a call within 4 ms.  One small call after a rest is done before its helper is awake; a series of them is not.
   relu on 256 KB after 6 ms of rest took 34 us where it woke the helper, and 13 us on one thread.  The pool is an array
   of fixed size and needs no heap.

   In company it does not spin.  Other libraries' idle threads spin as well, PyTorch's and ONNX Runtime's for some 10 ms
   after each operation.  A helper that spins beside one has its processor half of the time only, and takes that half
   from the library's next operation.  A helper that sleeps gets the processor when it is woken, because the system
   prefers a thread that has waited.  So a helper that was preempted while it spun reports company (fa_crowded).  For
   the next 100 ms helpers go to sleep as soon as their ranges are done, and calls with less than `bytes_to_wake` do not
   wake them, in series either.  Between PyTorch's convolutions prelu on 8 MB took 0.6 of one thread's time this way;
   where helpers spun it took 1.2.  docs/performance.md has what else was tried.

   The pool does not call sched_yield.  A thread that yields to one that spins is off its processor for milliseconds.

   All callers share the pool.  Together they keep no more helpers busy than there are processors, or than the largest
   team needs.  A caller that finds no free helper works alone.

   The teams of OpenMP's runtimes are taken only where somebody asks for them (team.h), for three reasons:
   - libgomp ends the process if it cannot start a thread, or if malloc fails while it makes a team.  Here the caller
     goes on with the helpers that it could get.
   - libgomp hangs in a forked child.  Here the child begins with an empty pool.
   - libgomp gives every calling thread a pool of its own.  Here there is one pool for all.

   The states of a worker slot, and the moves between them:

                  1                     4
       EMPTY ----------> TAKEN ------------------> WORK <---------+
             <----------  ^ |  <------------------  |             |
                  2       | |           6           | 5           | 8
                        3 | | 9                     v             |
                          | v                      BUSY           |
                          IDLE                      |             |
                           ^                        | 7           |
                           |            9           v             |
                           +---------------------- DONE ----------+

       EMPTY   there is no helper              WORK   there is a range, and nobody has begun it
       IDLE    the helper is in no team        BUSY   the helper is computing the range
       TAKEN   the helper is in a team         DONE   the helper has computed the range
               and has no range

     move              made by   in           how, and with which memory order
     1 EMPTY -> TAKEN  caller    fa_pool_gather    compare-and-exchange, acquire-release; then the thread is started
     2 TAKEN -> EMPTY  caller    fa_pool_gather    store, release: the thread could not be started
     3 IDLE  -> TAKEN  caller    fa_pool_gather    compare-and-exchange, acquire-release
     4 TAKEN -> WORK   caller    fa_pool_run       store, sequentially consistent, after the description of the range
     5 WORK  -> BUSY   helper    fa_help      compare-and-exchange, acquire-release
     6 WORK  -> TAKEN  caller    fa_pool_run       compare-and-exchange, acquire-release: the range is taken back
     7 BUSY  -> DONE   helper    fa_help      store, sequentially consistent, after the results
     8 DONE  -> WORK   caller    fa_pool_run       as 4, if the team gets more ranges
     9 TAKEN or DONE   caller    fa_pool_dismiss   store, release
           -> IDLE
     Every state becomes EMPTY in a forked child (fa_in_child), which has no thread but the one that forked.

   Moves that two threads may try at once are compare-and-exchanges: 1 and 3 (two callers), 5 and 6 (caller and helper).
   Every other move is made by the only thread that may make it.

   Release and acquire order everything else.  The description of the range (`run`, `work`, `index`, `count`, `mode`) is
   written before move 4 and read after move 5.  The helper's results are written before move 7, and the caller reads
   DONE with acquire before it returns.  Moves 4 and 7 are sequentially consistent because the other side may be asleep;
   fa_set explains that. */

#ifndef FASTACT_POOL_H
#define FASTACT_POOL_H

#include "exact.h"

/* Computes one range: the one with this index, of `count` ranges into which `work` is cut. */
typedef void (*fa_range)(const void *work, int index, int count);

#if defined(__unix__) || defined(__APPLE__) || defined(_WIN32)
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#ifndef _WIN32
#include <sched.h>
#include <sys/resource.h>
#endif
#include "affinity.h"
#include "float_mode.h"
#include "system.h"

enum {
    FA_SLOTS = 1023,            /* the most helpers that there can be */
    FA_STACK = 512 << 10,       /* bytes of a helper's stack.  A kernel needs a few KB.  The usual 8 MB may be too much
                                   where the address space of the process is limited */
    FA_PAUSES = 64,             /* readings of a state between two readings of the clock */
    FA_SPIN_NS = 4000000,       /* a helper that has spun for this time goes to sleep; libgomp's threads do the same.
                                   It is long because waking a sleeping helper costs its caller 13 us, where starting a
                                   team of spinning helpers costs 1 to 2 us */
    FA_WAIT_NS = 1000000,       /* a caller that has spun for this time goes to sleep until its helper is done */
    FA_GAP_NS = 100000,         /* if two readings of the clock are further apart, another thread may have run */
    FA_CROWDED_NS = 100000000,  /* how long company is expected to stay */
};
enum { FA_EMPTY, FA_IDLE, FA_TAKEN, FA_WORK, FA_BUSY, FA_DONE };

struct fa_slot {
    int state;
    int sleepers;               /* how many threads sleep until `state` changes: the helper, its caller or neither */
    int index, count;
    fa_range run;
    const void *work;
    fa_mode mode;               /* the caller's floating-point mode, which the helper takes over */
    /* What stands above is written and read at every start.  It has 128 bytes to itself, since processors fetch cache
       lines of 64 bytes in pairs. */
    fa_mutex mutex __attribute__((aligned(128)));
    fa_condition changed;
    struct fa_affinity affinity;
} __attribute__((aligned(128)));

struct fa_helpers {
    int helpers;
    short slot[FA_SLOTS];       /* the numbers of the helpers' slots */
};

static struct fa_slot fa_pool[FA_SLOTS];
static int fa_spin_ns = FA_SPIN_NS, fa_wait_ns = FA_WAIT_NS;
static long long fa_crowded_until;      /* the time until which helpers do not spin */
static long long fa_left_asleep;        /* the time of the last small call that met a sleeping helper */

/* Whether a helper has met company lately. */
static int fa_crowded(void)
{
    long long until = __atomic_load_n(&fa_crowded_until, __ATOMIC_RELAXED);
    return until && fa_now(FA_COARSE_CLOCK) < until;
}

/* How often the calling thread was preempted by other threads of this system.  A host that takes a virtual machine's
   processor away is not counted: that says nothing about company. */
static long fa_preemptions(void)
{
#ifdef RUSAGE_THREAD
    struct rusage usage;
    if (!getrusage(RUSAGE_THREAD, &usage)) return usage.ru_nivcsw;
#endif
    return 0;
}

/* Moves a slot to a state that the other side may be waiting for, and wakes the other side if it sleeps.

   A thread that goes to sleep first adds itself to `sleepers` and then reads `state` once more (fa_await).  The thread
   here first writes `state` and then reads `sleepers`.  All four steps are sequentially consistent, so at least one of
   the two threads sees what the other has written: the first one stays awake, or this one wakes it.  The wake-up cannot
   come too early, because the first one holds the mutex until it sleeps. */
static void fa_set(struct fa_slot *slot, int state)
{
    __atomic_store_n(&slot->state, state, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&slot->sleepers, __ATOMIC_SEQ_CST)) {
        fa_mutex_lock(&slot->mutex);
        /* The helper may have woken up before the mutex was locked.  Then it must not be sent, because nobody would
           restore its mask. */
        if (state == FA_WORK && __atomic_load_n(&slot->sleepers, __ATOMIC_RELAXED)) fa_send(&slot->affinity);
        fa_condition_broadcast(&slot->changed);
        fa_mutex_unlock(&slot->mutex);
    }
}

/* Spins.  Returns 1 as soon as the slot is in this state, and 0 if the time to spin is over before.  The clock is first
   read after FA_PAUSES readings of the state, because many waits end before that.  A helper (which waits for FA_WORK)
   counts its preemptions before it spins on, and again when it seems to have been away. */
static int fa_spin(const struct fa_slot *slot, int state)
{
    const int helper = state == FA_WORK;
    const long long longest = !helper ? fa_wait_ns : fa_crowded() ? 0 : fa_spin_ns;
    long long start = 0, spent = 0, before;
    long preemptions = 0;
    int pauses;
    do {
        for (pauses = 0; pauses < FA_PAUSES; pauses++) {
            if (__atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) == state) return 1;
            fa_pause();
        }
        before = spent;
        spent = fa_now(FA_CLOCK);
        if (!start) {
            start = spent;
            if (helper) preemptions = fa_preemptions();
        }
        spent -= start;
        if (helper && spent - before > FA_GAP_NS && fa_preemptions() > preemptions) {
            __atomic_store_n(&fa_crowded_until, start + spent + FA_CROWDED_NS, __ATOMIC_RELAXED);
            return 0;
        }
    } while (spent < longest);
    return 0;
}

/* Waits until the slot is in this state: a helper waits for FA_WORK, a caller for FA_DONE.  A helper that was woken may
   find that its caller has taken the range back.  It then spins again, because the next call may come soon. */
static void fa_await(struct fa_slot *slot, int state)
{
    while (!fa_spin(slot, state)) {
        fa_mutex_lock(&slot->mutex);
        __atomic_add_fetch(&slot->sleepers, 1, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&slot->state, __ATOMIC_SEQ_CST) != state) fa_condition_wait(&slot->changed, &slot->mutex);
        __atomic_sub_fetch(&slot->sleepers, 1, __ATOMIC_SEQ_CST);
        if (state == FA_WORK) fa_arrive(&slot->affinity);
        fa_mutex_unlock(&slot->mutex);
    }
}

/* Moves a slot from one state to another; returns 0 if it is not in the first state, or not any more.  A plain reading
   comes first, because it is cheaper than a compare-and-exchange that fails. */
static int fa_change(struct fa_slot *slot, int from, int to)
{
    return __atomic_load_n(&slot->state, __ATOMIC_RELAXED) == from &&
           __atomic_compare_exchange_n(&slot->state, &from, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* The life of a helper. */
static FA_THREAD fa_help(void *argument)
{
    struct fa_slot *slot = argument;
    fa_enter(&slot->affinity);
    for (;;) {
        fa_await(slot, FA_WORK);
        if (!fa_change(slot, FA_WORK, FA_BUSY)) continue;       /* the caller has taken the range back */
        if (slot->mode != fa_get_mode()) fa_set_mode(slot->mode);
        slot->run(slot->work, slot->index, slot->count);
        fa_set(slot, FA_DONE);
    }
    return 0;
}

/* Starts the helper of a slot; returns whether that was possible. */
static int fa_start(struct fa_slot *slot)
{
    fa_mutex_init(&slot->mutex);
    fa_condition_init(&slot->changed);
    return fa_start_thread(fa_help, slot, FA_STACK);
}

/* Whether an earlier small call met a sleeping helper in the last 4 ms.  The asking call met one, too: it is noted. */
static int fa_call_in_series(void)
{
    const long long now = fa_now(FA_CLOCK);
    return now - __atomic_exchange_n(&fa_left_asleep, now, __ATOMIC_RELAXED) < FA_SPIN_NS;
}

static int fa_asleep(const struct fa_slot *slot)
{
    return __atomic_load_n(&slot->state, __ATOMIC_RELAXED) == FA_IDLE &&
           __atomic_load_n(&slot->sleepers, __ATOMIC_RELAXED);
}

/* Makes a team of up to `wanted` helpers.  It takes idle helpers first and starts new ones only if those are not
   enough.  It uses the first `bound` slots only.  All callers use the same slots, so `bound` is the most helpers that
   all callers can have together.

   `wake` says that the work is worth waking and starting helpers in any case.  Otherwise sleeping helpers stay asleep,
   and none is started, in company and in the first small call after a rest.  The clock is read only if the call meets a
   sleeping helper. */
static void fa_pool_gather(struct fa_helpers *team, int wanted, int bound, int wake)
{
    int i, n = 0, fresh;
    int worth = wake ? 1 : fa_crowded() ? 0 : -1;       /* -1: no sleeping helper was met, so that the clock can wait */
    if (bound > FA_SLOTS) bound = FA_SLOTS;
    for (fresh = 0; fresh < 2 && !(fresh && !worth); fresh++)
        for (i = 0; i < bound && n < wanted; i++) {
            if (worth != 1 && fa_asleep(&fa_pool[i])) {
                if (worth < 0) worth = fa_call_in_series();
                if (!worth) continue;
            }
            if (!fa_change(&fa_pool[i], fresh ? FA_EMPTY : FA_IDLE, FA_TAKEN)) continue;
            if (fresh && !fa_start(&fa_pool[i])) {
                __atomic_store_n(&fa_pool[i].state, FA_EMPTY, __ATOMIC_RELEASE);
                wanted = n;     /* the next thread could not be started either */
                break;
            }
            team->slot[n++] = (short)i;
        }
    team->helpers = n;
}

/* Runs the work on all threads of the team and returns when all ranges are done.

   When the caller has computed its own range, it takes back every range that no helper has begun, and computes it
   itself.  It does not wait, because a sleeping helper needs 35 us to wake up.  In that time one thread computes relu
   on 2 MB that lie in a cache.  A helper whose processor is taken by another thread needs even longer. */
static void fa_pool_run(const struct fa_helpers *team, fa_range run, const void *work)
{
    int i, count = team->helpers + 1;
    const fa_mode mode = count > 1 ? fa_get_mode() : 0;
    for (i = 0; i < team->helpers; i++) {
        struct fa_slot *slot = &fa_pool[team->slot[i]];
        slot->run = run;
        slot->work = work;
        slot->index = i + 1;
        slot->count = count;
        slot->mode = mode;
        fa_set(slot, FA_WORK);
    }
    run(work, 0, count);
    for (i = team->helpers - 1; i >= 0; i--)
        if (fa_change(&fa_pool[team->slot[i]], FA_WORK, FA_TAKEN)) run(work, i + 1, count);
    for (i = 0; i < team->helpers; i++) {
        struct fa_slot *slot = &fa_pool[team->slot[i]];
        if (__atomic_load_n(&slot->state, __ATOMIC_RELAXED) != FA_TAKEN) fa_await(slot, FA_DONE);
    }
}

/* Ends the team.  Its helpers become idle, and any caller may take them. */
static void fa_pool_dismiss(const struct fa_helpers *team)
{
    int i;
    for (i = 0; i < team->helpers; i++)
        __atomic_store_n(&fa_pool[team->slot[i]].state, FA_IDLE, __ATOMIC_RELEASE);
}

/* Empties all slots in a forked child.  The child has none of the helpers, and a mutex that another thread held would
   stay locked.  fa_at_fork has this called after a fork by C code too; Python's own hook sees Python's forks only. */
static void fa_in_child(void)
{
    int i;
    for (i = 0; i < FA_SLOTS; i++)
        if (fa_pool[i].state != FA_EMPTY) memset(&fa_pool[i], 0, sizeof fa_pool[i]);
}

/* Has to be called once, before the first team; returns 0 or an error number.  If the environment has
   OMP_WAIT_POLICY=passive, a thread that waits goes to sleep without spinning.  The variable is OpenMP's, because that
   is the one which people know for this purpose. */
static int fa_prepare(void)
{
    const char *policy = getenv("OMP_WAIT_POLICY");
    while (policy && isspace((unsigned char)*policy)) policy++;
    if (policy && !strncasecmp(policy, "passive", 7)) fa_spin_ns = fa_wait_ns = 0;
    return fa_at_fork(NULL, NULL, fa_in_child);
}

/* The number of processors that the calling thread may use.  On Linux the system is asked again only when the coarse
   clock has advanced, which it does every 4 ms or more often.  The system call takes 0.3 us, a tenth of the time of the
   smallest work that two threads share (3 us). */
static int fa_processors(void)
{
#ifdef __linux__
    static __thread long long asked;    /* the time of the last system call */
    static __thread int found;
    const long long now = fa_now(FA_COARSE_CLOCK);
    cpu_set_t set;
    if (!found || now != asked) {
        asked = now;
        found = sched_getaffinity(0, sizeof set, &set) ? fa_system_processors() : CPU_COUNT(&set);
    }
#else
    const int found = fa_system_processors();
#endif
    return found > 0 ? found : 1;
}

#else       /* There are no threads.  Every caller works alone. */
static int fa_processors(void) { return 1; }
struct fa_helpers { int helpers; };
static void fa_pool_gather(struct fa_helpers *team, int wanted, int bound, int wake) { team->helpers = 0; }
static void fa_pool_run(const struct fa_helpers *team, fa_range run, const void *work) { run(work, 0, 1); }
static void fa_pool_dismiss(const struct fa_helpers *team) { }
static int fa_prepare(void) { return 0; }
#endif

#endif
