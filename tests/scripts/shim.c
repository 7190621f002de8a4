/* In front of malloc and mmap: counts a thread's requests, and refuses the one that arm() names. */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);
static __thread long target, seen;
void arm(long n) { seen = 0; target = n; }
long disarm(void) { target = 0; return seen; }
static int refused(void) { return target && ++seen == target; }
void *malloc(size_t n) { return refused() ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t m) { return refused() ? NULL : __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { return refused() ? NULL : __libc_realloc(p, n); }
int posix_memalign(void **p, size_t a, size_t n)
{ *p = refused() ? NULL : __libc_memalign(a, n); return *p ? 0 : ENOMEM; }
void *aligned_alloc(size_t a, size_t n) { return refused() ? NULL : __libc_memalign(a, n); }
void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
    if (refused()) { errno = ENOMEM; return MAP_FAILED; }
    return (void *)syscall(SYS_mmap, at, n, prot, flags, fd, offset);
}
static int kept;
void keep_mappings(int on) { kept = on; }
int munmap(void *p, size_t n)
{
    if (kept) { errno = ENOMEM; return -1; }
    return (int)syscall(SYS_munmap, p, n);
}
