/* Asks the OpenMP runtimes that are loaded (we link none) how many threads they allow, and whether one of their teams is
   calling us.  A linked libgomp would change the process when it is loaded (OMP_PROC_BIND=true binds the main thread to
   one processor), and not every compiler has omp.h.  So runtimes are looked for by name, as threadpoolctl does, and
   again only when the loader has loaded something since. */

#ifndef FASTACT_OPENMP_H
#define FASTACT_OPENMP_H

#include "exact.h"

#if defined(__linux__) || defined(__FreeBSD__)
#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <string.h>

enum { FA_RUNTIMES = 8, FA_PATH = 4096 };
struct fa_runtime {
    int (*max_threads)(void);
    int (*in_parallel)(void);
    char path[FA_PATH];
};
/* Runtimes are only ever added, and stay loaded (see fa_find_runtimes): whoever reads the count may call them. */
static struct fa_runtime fa_runtimes[FA_RUNTIMES];
static int fa_runtime_count;
static unsigned long long fa_loads;     /* the loader's counter when they were last looked for */
/* Held whenever we ask the loader, and during a fork: the loader's own lock is not renewed in a forked child (glibc 2.36),
   so that a child whose parent was asking would wait for ever. */
static pthread_mutex_t fa_finding = PTHREAD_MUTEX_INITIALIZER;

struct fa_search {
    unsigned long long loads;
    int found;
    char paths[FA_RUNTIMES][FA_PATH];
};

static int fa_read_loads(struct dl_phdr_info *info, size_t size, void *loads)
{
    (void)size;
    *(unsigned long long *)loads = info->dlpi_adds;
    return 1;
}

static int fa_note_runtime(struct dl_phdr_info *info, size_t size, void *context)
{
    struct fa_search *search = context;
    const char *name = strrchr(info->dlpi_name, '/');
    name = name ? name + 1 : info->dlpi_name;
    (void)size;
    search->loads = info->dlpi_adds;
    if ((!strncmp(name, "libgomp", 7) || !strncmp(name, "libomp", 6) || !strncmp(name, "libiomp", 7)) &&
        search->found < FA_RUNTIMES && strlen(info->dlpi_name) < FA_PATH)
        strcpy(search->paths[search->found++], info->dlpi_name);
    return 0;
}

/* The caller holds fa_finding.  dlopen may not be called within dl_iterate_phdr, so the paths are collected first. */
static void fa_find_runtimes(void)
{
    static struct fa_search search;
    int i, k;
    search.found = 0;
    dl_iterate_phdr(fa_note_runtime, &search);
    for (i = 0; i < search.found && fa_runtime_count < FA_RUNTIMES; i++) {
        struct fa_runtime *runtime = &fa_runtimes[fa_runtime_count];
        void *handle;
        for (k = 0; k < fa_runtime_count && strcmp(fa_runtimes[k].path, search.paths[i]); k++) {}
        if (k < fa_runtime_count) continue;
        handle = dlopen(search.paths[i], RTLD_LAZY | RTLD_NOLOAD);      /* never closed: the runtime stays */
        if (!handle) continue;
        *(void **)&runtime->max_threads = dlsym(handle, "omp_get_max_threads");
        *(void **)&runtime->in_parallel = dlsym(handle, "omp_in_parallel");
        if (!runtime->max_threads || !runtime->in_parallel) continue;
        strcpy(runtime->path, search.paths[i]);
        __atomic_store_n(&fa_runtime_count, fa_runtime_count + 1, __ATOMIC_RELEASE);
    }
    fa_loads = search.loads;
}

/* How many runtimes there are; 30 ns where nothing was loaded since. */
static int fa_count_runtimes(void)
{
    unsigned long long loads = 0;
    pthread_mutex_lock(&fa_finding);
    dl_iterate_phdr(fa_read_loads, &loads);
    if (loads != fa_loads) fa_find_runtimes();
    pthread_mutex_unlock(&fa_finding);
    return __atomic_load_n(&fa_runtime_count, __ATOMIC_ACQUIRE);
}

/* The least that any of them allows the calling thread. */
static int fa_openmp_threads(void)
{
    int i, least = INT_MAX, count = fa_count_runtimes();
    for (i = 0; i < count; i++) {
        int threads = fa_runtimes[i].max_threads();
        if (threads < least) least = threads;
    }
    return least;
}

/* Whether one of them has called us from its team. */
static int fa_openmp_team(void)
{
    int i, count = fa_count_runtimes();
    for (i = 0; i < count; i++)
        if (fa_runtimes[i].in_parallel()) return 1;
    return 0;
}

static const char *fa_runtime_path(int i) { return fa_runtimes[i].path; }

static void fa_hold_finding(void) { pthread_mutex_lock(&fa_finding); }
static void fa_let_finding(void) { pthread_mutex_unlock(&fa_finding); }
static int fa_prepare_openmp(void) { return pthread_atfork(fa_hold_finding, fa_let_finding, fa_let_finding); }

#else       /* no way to list what is loaded */
#include <limits.h>
static int fa_count_runtimes(void) { return 0; }
static int fa_openmp_threads(void) { return INT_MAX; }
static int fa_openmp_team(void) { return 0; }
static const char *fa_runtime_path(int i) { (void)i; return ""; }
static int fa_prepare_openmp(void) { return 0; }
#endif

#endif
