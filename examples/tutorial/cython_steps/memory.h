/* Memory for step 9: it begins with a cache line, and has large pages where there are any, as large NumPy arrays do. */
#include <stdlib.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

static inline void *allocate(size_t size)
{
    size_t large = (size_t)2 << 20, unit = size < 2 * large ? 64 : large;
    size_t whole = (size + unit - 1) / unit * unit;
    void *memory = aligned_alloc(unit, whole ? whole : unit);
#ifdef MADV_HUGEPAGE
    if (memory && unit == large) madvise(memory, whole, MADV_HUGEPAGE);
#endif
    return memory;
}
