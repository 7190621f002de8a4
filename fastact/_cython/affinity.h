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
#include <sys/syscall.h>
#include <unistd.h>

/* One for each helper.  A thread that calls fa_send or fa_arrive holds the mutex of the helper's slot. */
struct fa_affinity {
    pid_t thread;
    int restricted;             /* whether a processor is taken out of the helper's mask ... */
    int barred;                 /* ... which one that is ... */
    cpu_set_t allowed;          /* ... and what the mask was before */
};

/* Called by the helper when it starts. */
static void fa_enter(struct fa_affinity *a) { a->thread = (pid_t)syscall(SYS_gettid); }

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
