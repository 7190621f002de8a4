/* Wakes a sleeping helper on another processor than its caller's.  Linux only; elsewhere, and where the macro
   FASTACT_NO_AFFINITY is defined (CFLAGS=-DFASTACT_NO_AFFINITY for the build), the three functions do nothing.

   Linux may wake a helper on its caller's processor.  In a virtual machine the reason is that Linux takes a halted
   processor for one that the host has preempted; and some versions of Linux pack threads on few processors.  The helper
   then waits behind its caller until Linux balances the load, 4 to 8 ms later.

   The remedy is the affinity mask, the set of processors that a thread may use.  The caller takes its own processor out
   of the helper's mask before it wakes the helper, and the helper restores its mask when it runs. */

#ifndef FASTACT_AFFINITY_H
#define FASTACT_AFFINITY_H

#if defined(__linux__) && !defined(FASTACT_NO_AFFINITY)
#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* One for each helper.  A thread that calls fa_send or fa_arrive holds the mutex of the helper's slot. */
struct fa_affinity {
    pid_t thread;
    int restricted;             /* whether a processor is taken out of the helper's mask */
    int barred;                 /* the processor that is taken out */
    cpu_set_t allowed;          /* the mask before that */
};

/* Called by the helper when it starts.  It asks the system for short turns of 0.3 ms, which Linux 6.12 and later grant:
   a thread with a short turn need not wait for the end of another one's turn (2.8 ms) when it is woken.  After an
   operation of ONNX Runtime, whose threads spin, prelu on 8 MB took 0.6 to 0.8 of the time. */
enum { FA_TURN_NS = 300000 };
static void fa_enter(struct fa_affinity *a)
{
    struct {                    /* struct sched_attr, which the C library's headers have since 2024 only */
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } turns;
    a->thread = (pid_t)syscall(SYS_gettid);
    if (syscall(SYS_sched_getattr, 0, &turns, sizeof turns, 0) || turns.policy != SCHED_OTHER) return;
    turns.size = sizeof turns;
    turns.runtime = FA_TURN_NS;
    syscall(SYS_sched_setattr, 0, &turns, 0);       /* where it is refused, nothing changes */
}

/* Called by the caller before it wakes the helper. */
static void fa_send(struct fa_affinity *a)
{
    cpu_set_t others;
    int here = sched_getcpu();
    if (here < 0 || here >= CPU_SETSIZE || (a->restricted && a->barred == here)) return;
    /* A helper that was sent before and does not run yet is sent again if its caller runs on another processor now. */
    if (!a->restricted && sched_getaffinity(a->thread, sizeof a->allowed, &a->allowed)) return;
    others = a->allowed;
    CPU_CLR(here, &others);
    if (!CPU_COUNT(&others) || sched_setaffinity(a->thread, sizeof others, &others)) return;
    a->restricted = 1;
    a->barred = here;
}

/* Called by the helper when it runs. */
static void fa_arrive(struct fa_affinity *a)
{
    if (a->restricted) sched_setaffinity(a->thread, sizeof a->allowed, &a->allowed);
    a->restricted = 0;
}

#else
struct fa_affinity { char unused; };
static void fa_enter(struct fa_affinity *a) { (void)a; }
static void fa_send(struct fa_affinity *a) { (void)a; }
static void fa_arrive(struct fa_affinity *a) { (void)a; }
#endif

#endif
