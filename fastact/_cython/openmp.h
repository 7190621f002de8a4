/* The OpenMP runtimes of the process: how many threads they allow, whether one of their teams is calling us, and their
   teams for team.h.

   A runtime is a library that carries out OpenMP's directives, such as GCC's libgomp.  Other packages load runtimes.
   This package is linked to none, for two reasons.  A libgomp that is linked changes the process when it is loaded:
   with OMP_PROC_BIND=true it binds the main thread to one processor.  And not every compiler has omp.h.

   The runtimes are found among the loaded libraries by their names, as threadpoolctl finds them.  They are looked up
   again only when the loader (the part of the C library that loads libraries) has loaded something since. */

#ifndef FASTACT_OPENMP_H
#define FASTACT_OPENMP_H

#include "exact.h"

#if defined(__linux__) || defined(__FreeBSD__)
#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <string.h>
#include "system.h"

/* fa_lock is held whenever we ask the loader, and during a fork.  The reason is the loader's own lock, which glibc
   (2.36) does not renew in a forked child.  If a thread of the parent held the loader's lock at the fork, the child
   would wait for it for ever. */

enum { FA_RUNTIMES = 8, FA_PATH = 4096 };
/* Runtimes are only ever added, and they stay loaded.  So the first fa_runtime_count elements never change.  A thread
   that has read the count while it held the lock may read them without the lock. */
static struct fa_runtime {
    int (*max_threads)(void);
    int (*in_parallel)(void);
    int (*thread_num)(void);
    int (*num_threads)(void);
    /* Runs run(data) on each thread of a team; NULL: the runtime has no such function.  GCC compiles a parallel region
       into a call of it, so LLVM's and Intel's runtimes have it too. */
    void (*parallel)(void (*run)(void *), void *data, unsigned threads, unsigned flags);
    char path[FA_PATH];
} fa_runtimes[FA_RUNTIMES];
static int fa_runtime_count;
static int fa_torch_runtime;            /* the number (from 1) of PyTorch's runtime; 0: none */
static char fa_torch_path[FA_PATH];
static int fa_is_child;                 /* whether this process was forked after this module was loaded */
static unsigned long long fa_loads;     /* the loader's counter (dlpi_adds) when the runtimes were last looked up */

/* A callback of dl_iterate_phdr: reads the loader's counter from the first library and stops there. */
static int fa_read_loads(struct dl_phdr_info *info, size_t size, void *loads)
{
    (void)size;
    *(unsigned long long *)loads = info->dlpi_adds;
    return 1;
}

/* A callback of dl_iterate_phdr: if the library is a runtime that has not been noted yet, it notes the path in the next
   element of fa_runtimes.  `noted` counts the elements that have a path. */
static int fa_note_runtime(struct dl_phdr_info *info, size_t size, void *noted)
{
    int i, *n = noted;
    const char *path = info->dlpi_name, *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    (void)size;
    if (!strncmp(name, "libtorch_cpu.", 13) && strlen(path) < FA_PATH) strcpy(fa_torch_path, path);
    if (strncmp(name, "libgomp", 7) && strncmp(name, "libomp", 6) && strncmp(name, "libiomp", 7)) return 0;
    for (i = 0; i < *n; i++)
        if (!strcmp(fa_runtimes[i].path, path)) return 0;
    if (*n < FA_RUNTIMES && strlen(path) < FA_PATH) strcpy(fa_runtimes[(*n)++].path, path);
    return 0;
}

/* Notes which runtime PyTorch takes: dlsym looks in a library and in those that it was linked to. */
static void fa_find_torch(void)
{
    void *handle = fa_torch_path[0] ? dlopen(fa_torch_path, RTLD_LAZY | RTLD_NOLOAD) : NULL;
    void *parallel = handle ? dlsym(handle, "GOMP_parallel") : NULL;
    int i;
    for (i = 0; i < fa_runtime_count && parallel && !fa_torch_runtime; i++)
        if (*(void **)&fa_runtimes[i].parallel == parallel)
            __atomic_store_n(&fa_torch_runtime, i + 1, __ATOMIC_RELAXED);
    if (handle) dlclose(handle);
}

/* Adds the runtimes that are new.  It collects their paths first, since a callback of dl_iterate_phdr must not call
   dlopen.  dlopen with RTLD_NOLOAD loads nothing, but keeps the runtime loaded, because its handle is never closed. */
static void fa_find_runtimes(void)
{
    int i, noted = fa_runtime_count;
    dl_iterate_phdr(fa_note_runtime, &noted);
    for (i = fa_runtime_count; i < noted; i++) {
        struct fa_runtime *runtime = &fa_runtimes[fa_runtime_count];
        void *handle = dlopen(fa_runtimes[i].path, RTLD_LAZY | RTLD_NOLOAD);
        if (!handle) continue;
        *(void **)&runtime->max_threads = dlsym(handle, "omp_get_max_threads");
        *(void **)&runtime->in_parallel = dlsym(handle, "omp_in_parallel");
        *(void **)&runtime->thread_num = dlsym(handle, "omp_get_thread_num");
        *(void **)&runtime->num_threads = dlsym(handle, "omp_get_num_threads");
        *(void **)&runtime->parallel = dlsym(handle, "GOMP_parallel");
        if (!runtime->max_threads || !runtime->in_parallel) continue;
        if (!runtime->thread_num || !runtime->num_threads) runtime->parallel = NULL;
        memmove(runtime->path, fa_runtimes[i].path, FA_PATH);
        fa_runtime_count++;
    }
    fa_find_torch();
}

/* The number of runtimes.  It takes 30 ns if the loader has loaded nothing since the last call. */
static int fa_count_runtimes(void)
{
    unsigned long long loads = 0;
    int count;
    fa_lock();
    dl_iterate_phdr(fa_read_loads, &loads);
    if (loads != fa_loads) fa_find_runtimes();
    fa_loads = loads;
    count = fa_runtime_count;
    fa_unlock();
    return count;
}

/* The least number of threads that a runtime allows the calling thread. */
static int fa_openmp_threads(void)
{
    int i, least = INT_MAX, count = fa_count_runtimes();
    for (i = 0; i < count; i++) {
        int threads = fa_runtimes[i].max_threads();
        if (threads < least) least = threads;
    }
    return least;
}

/* Whether the calling thread is in a team of one of the runtimes. */
static int fa_openmp_team(void)
{
    int i, count = fa_count_runtimes();
    for (i = 0; i < count; i++)
        if (fa_runtimes[i].in_parallel()) return 1;
    return 0;
}

/* The number (from 1) of the runtime whose teams we take: PyTorch's, else the first that has any; 0: there is none. */
static int fa_team_runtime(void)
{
    int i, count = fa_count_runtimes(), torch = __atomic_load_n(&fa_torch_runtime, __ATOMIC_RELAXED);
    if (torch) return torch;
    for (i = 0; i < count; i++)
        if (fa_runtimes[i].parallel) return i + 1;
    return 0;
}

static const struct fa_runtime *fa_get_runtime(int number) { return &fa_runtimes[number - 1]; }
static const char *fa_runtime_path(int i) { return fa_runtimes[i].path; }

static void fa_note_child(void)
{
    fa_is_child = 1;
    fa_unlock();
}

/* Has to be called once, before any other function here; returns 0 or an error number. */
static int fa_prepare_openmp(void) { return fa_at_fork(fa_lock, fa_unlock, fa_note_child); }

#else       /* There is no way to list the loaded libraries. */
#include <limits.h>
struct fa_runtime {
    int (*thread_num)(void);
    int (*num_threads)(void);
    void (*parallel)(void (*run)(void *), void *data, unsigned threads, unsigned flags);
};
static int fa_is_child;
static int fa_team_runtime(void) { return 0; }
static const struct fa_runtime *fa_get_runtime(int number) { (void)number; return NULL; }
static int fa_count_runtimes(void) { return 0; }
static int fa_openmp_threads(void) { return INT_MAX; }
static int fa_openmp_team(void) { return 0; }
static const char *fa_runtime_path(int i) { (void)i; return ""; }
static int fa_prepare_openmp(void) { return 0; }
#endif

#endif
