/* Hosts of the C interface, for test_c_interface.py: parallel loops of several kinds, and pools that only schedule. */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
#include "fastact.h"

enum { MOST = 256 };

#ifdef __x86_64__
static unsigned get_mode(void) { return __builtin_ia32_stmxcsr() & ~0x3fu; }
void set_mode(unsigned mode) { __builtin_ia32_ldmxcsr(mode); }
#else
static unsigned get_mode(void) { return 0; }
void set_mode(unsigned mode) { (void)mode; }
#endif

/* ---- parallel loops: a fastact_parallel_for's context is a struct host ------------------------------------------- */

struct host {
    int loops;                  /* how many loops it was asked for */
    int modes_lost;             /* how often a thread had another floating-point mode after a body than before */
    unsigned mode;              /* of its threads; 0: as they are */
};

static void run_body(struct host *host, fastact_body body, void *work, int64_t i)
{
    const unsigned before = get_mode();
    unsigned mode = before;
    if (host->mode) set_mode(mode = host->mode);
    body(work, i);
    if (get_mode() != mode) __atomic_add_fetch(&host->modes_lost, 1, __ATOMIC_RELAXED);
    set_mode(before);
}

void in_order(void *context, int64_t n, fastact_body body, void *work)
{
    int64_t i;
    ((struct host *)context)->loops++;
    for (i = 0; i < n; i++) run_body(context, body, work, i);
}

void in_reverse(void *context, int64_t n, fastact_body body, void *work)
{
    ((struct host *)context)->loops++;
    while (n-- > 0) run_body(context, body, work, n);
}

struct part {
    struct host *host;
    int64_t first, step, n;
    fastact_body body;
    void *work;
};

static void *run_part(void *argument)
{
    struct part *part = argument;
    int64_t i;
    for (i = part->first; i < part->n; i += part->step) {
        usleep((unsigned)(100 * (part->n - i)));        /* the last index comes first */
        run_body(part->host, part->body, part->work, i);
    }
    return NULL;
}

static void on_threads(void *context, int threads, int64_t n, fastact_body body, void *work)
{
    pthread_t thread[MOST];
    struct part part[MOST];
    int i;
    ((struct host *)context)->loops++;
    for (i = 0; i < threads; i++) {
        part[i] = (struct part){context, i, threads, n, body, work};
        if (pthread_create(&thread[i], NULL, run_part, &part[i])) abort();
    }
    for (i = 0; i < threads; i++) pthread_join(thread[i], NULL);
}

void on_a_thread_each(void *context, int64_t n, fastact_body body, void *work)
{
    on_threads(context, n < MOST ? (int)n : MOST, n, body, work);
}

void on_two_threads(void *context, int64_t n, fastact_body body, void *work)
{
    on_threads(context, 2, n, body, work);
}

/* ---- pools that only schedule: their argument is a struct pool ----------------------------------------------------- */

struct pool {
    int tasks, refused;         /* how many were handed over, and how many of them were refused */
    int kept;
    struct late { fastact_task task; void *argument; pthread_t thread; } late[MOST];
};

int refuse(void *pool, fastact_task task, void *argument)
{
    struct pool *p = pool;
    (void)task, (void)argument;
    p->tasks++, p->refused++;
    return 1;
}

/* Runs a task before it returns. */
int run_now(void *pool, fastact_task task, void *argument)
{
    ((struct pool *)pool)->tasks++;
    task(argument);
    return 0;
}

/* Keeps a task until run_kept() is called, long after the call. */
int keep(void *pool, fastact_task task, void *argument)
{
    struct pool *p = pool;
    p->tasks++;
    if (p->kept == MOST) return p->refused++, 1;
    p->late[p->kept++] = (struct late){task, argument, 0};
    return 0;
}

int run_kept(struct pool *pool)
{
    int i, kept = pool->kept;
    for (i = 0; i < kept; i++) pool->late[i].task(pool->late[i].argument);
    pool->kept = 0;
    return kept;
}

static void *run_late(void *argument)
{
    struct late *late = argument;
    usleep((unsigned)(50 * (rand() % 20)));
    late->task(late->argument);
    return NULL;
}

/* Runs a task on a thread, which begins at once or some time later; join_all() waits for all of them. */
int start(void *pool, fastact_task task, void *argument)
{
    struct pool *p = pool;
    struct late *late = &p->late[p->kept];
    p->tasks++;
    if (p->kept == MOST || p->tasks % 5 == 0) return p->refused++, 1;
    *late = (struct late){task, argument, 0};
    if (pthread_create(&late->thread, NULL, run_late, late)) return p->refused++, 1;
    p->kept++;
    return 0;
}

int join_all(struct pool *pool)
{
    int i, kept = pool->kept;
    for (i = 0; i < kept; i++) pthread_join(pool->late[i].thread, NULL);
    pool->kept = 0;
    return kept;
}

/* ---- a loop by itself ---------------------------------------------------------------------------------------------- */

struct counted {
    pthread_t caller;
    int count[MOST + 1];
};

/* Takes longer on every thread but the caller's, so that the caller is the first who finds nothing to do. */
static void count_slowly(void *work, int64_t i)
{
    struct counted *counted = work;
    usleep(pthread_equal(counted->caller, pthread_self()) ? 200 : 5000);
    __atomic_add_fetch(&counted->count[i < MOST ? i : MOST], 1, __ATOMIC_RELAXED);
}

/* Runs a loop of n indices; how many of them were not computed once when it returned, and how many others were. */
int faults_of_loop(fastact_parallel_for loop, void *context, int n)
{
    struct counted *counted = calloc(1, sizeof *counted);       /* never freed: a fault may come late */
    int i, faults = 0;
    counted->caller = pthread_self();
    loop(context, n, count_slowly, counted);
    for (i = 0; i <= MOST; i++) faults += __atomic_load_n(&counted->count[i], __ATOMIC_RELAXED) != (i < n);
    return faults;
}

/* What ctypes has to have the same sizes for. */
int size_of_array(void) { return sizeof(fastact_array); }
int size_of_options(void) { return sizeof(fastact_options); }
int size_of_scheduler(void) { return sizeof(fastact_scheduler); }
int size_of_pool(void) { return sizeof(struct pool); }
