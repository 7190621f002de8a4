/* The functions of fastact.h, and the functions that write their error messages.  entry.pyx includes this file; it
   defines fa_enter, in which all of them end. */

#ifndef FASTACT_INTERFACE_H
#define FASTACT_INTERFACE_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "fastact.h"
#include "elements.h"
#include "system.h"
#include "tables.h"

static const char *fa_dtype_name(int dtype)
{
#define FA_NAME(code, T, name) case code: return name;
    switch (dtype & ~SWAPPED) {
        FA_DTYPES(FA_NAME)
        case FASTACT_FLOAT16: return "float16";
        case FASTACT_BFLOAT16: return "bfloat16";
    }
#undef FA_NAME
    return NULL;
}

/* Writes a message, if it is wanted, and returns the status. */
static int fa_fail(const fastact_options *options, int status, const char *format, ...)
{
    va_list arguments;
    if (!options || options->size < sizeof *options || !options->message || !options->message_size) return status;
    va_start(arguments, format);
    vsnprintf(options->message, options->message_size, format, arguments);
    va_end(arguments);
    return status;
}

/* An array's shape as text: "(2, 3)". */
enum { FA_SHAPE_TEXT = 256 };
static const char *fa_shape(const fastact_array *array, char *text)
{
    int d, n = snprintf(text, FA_SHAPE_TEXT, "(");
    for (d = 0; d < array->ndim && n < FA_SHAPE_TEXT - 24; d++)
        n += snprintf(text + n, FA_SHAPE_TEXT - n, d ? ", %lld" : "%lld", (long long)array->shape[d]);
    snprintf(text + n, FA_SHAPE_TEXT - n, d < array->ndim ? ", ...)" : array->ndim == 1 ? ",)" : ")");
    return text;
}

static int fa_enter(int kernel, const fastact_array *y, const fastact_array *dalpha, const fastact_array *dy,
                    const fastact_array *x, const fastact_array *alpha, const fastact_options *options);

static int fa_enter_masked(int kernel, const fastact_array *y, const fastact_array *mask, const fastact_array *x,
                           double alpha, const fastact_options *options);

int fastact_relu(const fastact_array *y, const fastact_array *mask, const fastact_array *x,
                 const fastact_options *options)
{
    if (mask) return fa_enter_masked(RELU_TO_MASK, y, mask, x, 0, options);
    return fa_enter(RELU, y, NULL, NULL, x, NULL, options);
}

static int fa_one_of_both(const fastact_options *options)
{
    return fa_fail(options, FASTACT_BAD_VALUE, "x and mask are both given: one of them has to be NULL");
}

int fastact_relu_backward(const fastact_array *dx, const fastact_array *dy, const fastact_array *x,
                          const fastact_array *mask, const fastact_options *options)
{
    if (x && mask) return fa_one_of_both(options);
    if (mask) return fa_enter_masked(RELU_FROM_MASK, dx, mask, dy, 0, options);
    return fa_enter(RELU_BACKWARD, dx, NULL, dy, x, NULL, options);
}

/* One number as an array of no axes. */
static fastact_array fa_number(double *number)
{
    fastact_array array = {sizeof array, FASTACT_FLOAT64, 0, NULL, NULL, NULL};
    array.data = number;
    return array;
}

int fastact_leaky_relu(const fastact_array *y, const fastact_array *mask, const fastact_array *x, double alpha,
                       const fastact_options *options)
{
    const fastact_array slope = fa_number(&alpha);
    if (mask) return fa_enter_masked(PRELU_TO_MASK, y, mask, x, alpha, options);
    return fa_enter(PRELU, y, NULL, NULL, x, &slope, options);
}

int fastact_leaky_relu_backward(const fastact_array *dx, const fastact_array *dy, const fastact_array *x,
                                const fastact_array *mask, double alpha, const fastact_options *options)
{
    const fastact_array slope = fa_number(&alpha);
    if (x && mask) return fa_one_of_both(options);
    if (mask) return fa_enter_masked(PRELU_FROM_MASK, dx, mask, dy, alpha, options);
    return fa_enter(PRELU_BACKWARD, dx, NULL, dy, x, &slope, options);
}

int fastact_prelu(const fastact_array *y, const fastact_array *x, const fastact_array *alpha,
                  const fastact_options *options)
{
    return fa_enter(PRELU, y, NULL, NULL, x, alpha, options);
}

int fastact_prelu_backward(const fastact_array *dx, const fastact_array *dalpha, const fastact_array *dy,
                           const fastact_array *x, const fastact_array *alpha, const fastact_options *options)
{
    if (!dx && !dalpha) return FASTACT_OK;      /* nothing is needed */
    return fa_enter(PRELU_BACKWARD, dx, dalpha, dy, x, alpha, options);
}

/* ---- a host that only schedules ---------------------------------------------------------------------------------- */

/* A parallel loop.  The caller and every task that has not ended hold it.  The last one to let go frees it, perhaps
   long after the loop. */
struct fa_job {
    int64_t n, next, done;      /* indices; the next one that nobody has taken; how many are done */
    int holders;
    fastact_body body;
    void *work;
};

static void fa_release(struct fa_job *job)
{
    if (__atomic_sub_fetch(&job->holders, 1, __ATOMIC_ACQ_REL) == 0) free(job);
}

/* Takes indices until there are none. */
static void fa_claim(struct fa_job *job)
{
    int64_t i;
    while ((i = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED)) < job->n) {
        job->body(job->work, i);
        __atomic_add_fetch(&job->done, 1, __ATOMIC_RELEASE);
    }
}

static void fa_task(void *job)
{
    fa_claim(job);
    fa_release(job);
}

void fastact_scheduled_for(void *scheduler, int64_t n, fastact_body body, void *work)
{
    const fastact_scheduler *host = scheduler;
    struct fa_job *job = host && host->size >= sizeof *host ? malloc(sizeof *job) : NULL;
    int64_t i, helpers;
    if (!job) {                 /* the calling thread does it all */
        for (i = 0; i < n; i++) body(work, i);
        return;
    }
    *job = (struct fa_job){n, 0, 0, 1, body, work};
    helpers = n - 1 < host->workers ? n - 1 : host->workers;
    for (i = 0; i < helpers; i++) {
        __atomic_add_fetch(&job->holders, 1, __ATOMIC_RELAXED);
        if (host->schedule(host->pool, fa_task, job)) {
            fa_release(job);
            break;
        }
    }
    fa_claim(job);
    /* All indices are taken.  Wait for those that other threads are still computing. */
    while (__atomic_load_n(&job->done, __ATOMIC_ACQUIRE) < n) fa_pause();
    fa_release(job);
}

#endif
