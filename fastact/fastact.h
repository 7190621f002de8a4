/* fastact's C interface: ReLU, leaky ReLU and PReLU on a CPU, forward and backward, without Python's GIL.

   What the functions compute, their forms of alpha and their rules for dtypes are those of the Python functions of the
   same names, which their docstrings define.  Results come first.  An array that is not needed is NULL.

   The functions never take the GIL and touch no Python object; they may be called from any thread.  Each returns
   FASTACT_OK or an error.  After an error nothing has been written, and options->message says why.

   Before the first call the process has to import fastact.  There are two ways to the functions:
   - With Python.h included before this file: call fastact_import() once in each source file, with the GIL.  It returns
     0, or -1 with a Python exception.  A call without it would jump to NULL.
   - Without Python.h: define FASTACT_BY_NAME, and link to or look up (dlsym) the symbols of the module that
     fastact.config()["c_interface"] names. */

#ifndef FASTACT_H
#define FASTACT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What an array holds, in native byte order. */
enum {
    FASTACT_FLOAT16 = 1,        /* IEEE's, of 16 bits */
    FASTACT_BFLOAT16,           /* the upper half of a float */
    FASTACT_FLOAT32,
    FASTACT_FLOAT64,
    FASTACT_BOOL,
    FASTACT_INT8,
    FASTACT_INT16,
    FASTACT_INT32,
    FASTACT_INT64,
    FASTACT_UINT8,
    FASTACT_UINT16,
    FASTACT_UINT32,
    FASTACT_UINT64
};

/* What a function returns. */
enum {
    FASTACT_OK,
    FASTACT_BAD_VALUE,          /* shapes, memory that is shared, a struct's size, an option */
    FASTACT_BAD_TYPE,           /* a dtype that is unknown, or that the function does not take */
    FASTACT_NO_MEMORY,
    FASTACT_NO_SOURCE,          /* the threads that were asked for are not there */
    FASTACT_NOT_YET             /* a later version computes this: nothing in this one */
};

/* Where the threads of a call come from.  A call that is too small for two threads runs on the calling one. */
enum {
    FASTACT_SOURCE_DEFAULT,     /* what fastact.set_thread_source() or the environment say */
    FASTACT_SOURCE_OWN,         /* the package's own pool */
    FASTACT_SOURCE_OPENMP,      /* an OpenMP runtime that is loaded: torch's, else the first one */
    FASTACT_SOURCE_CALLER       /* options->parallel_for */
};

/* An array of up to 64 axes.  `size` is sizeof(fastact_array).  Strides are in bytes and may be 0 or negative; NULL
   means C order.  `data` is the element whose indices are all 0. */
typedef struct {
    uint32_t size;
    int32_t dtype, ndim;
    void *data;
    const int64_t *shape, *strides;
} fastact_array;

typedef void (*fastact_body)(void *work, int64_t i);
/* Calls body(work, i) once for each i from 0 to n - 1, on threads of its choice and in any order, and returns when all
   calls have returned. */
typedef void (*fastact_parallel_for)(void *context, int64_t n, fastact_body body, void *work);

/* How a call is run.  Start from fastact_default_options().  Passing NULL for options means the same values. */
typedef struct {
    uint32_t size;              /* sizeof(fastact_options) */
    int32_t n_threads;          /* an upper bound; 0: the bound in force, as fastact.get_num_threads() returns it */
    int32_t source;             /* FASTACT_SOURCE_... */
    int32_t channel_axis;       /* the axis of a 1-D alpha with more than one element; negative: from the end */
    fastact_parallel_for parallel_for;
    void *context;              /* parallel_for's first argument */
    char *message;              /* gets the error as text, cut to message_size bytes; or NULL */
    size_t message_size;
} fastact_options;
static inline fastact_options fastact_default_options(void)
{
    fastact_options options = {sizeof(fastact_options), 0, FASTACT_SOURCE_DEFAULT, 1, NULL, NULL, NULL, 0};
    return options;
}

/* A host whose thread pool only schedules: `schedule` hands task(argument) to the pool, to run at any time, and returns
   0, or something else if it cannot.  `workers` is how many of the pool's threads may help the calling one. */
typedef void (*fastact_task)(void *argument);
typedef struct {
    uint32_t size;              /* sizeof(fastact_scheduler) */
    int32_t workers;
    int (*schedule)(void *pool, fastact_task task, void *argument);
    void *pool;
} fastact_scheduler;

/* The functions, each with its arguments.  y, dx and dalpha are results.  alpha and dalpha have the same shape: one
   element, one for each channel, or a shape that broadcasts to x's.  relu_backward and leaky_relu_backward take x or a
   mask. */
#define FASTACT_FUNCTIONS(F) \
    F(int, relu, (const fastact_array *y, const fastact_array *mask, const fastact_array *x, \
                  const fastact_options *options)) \
    F(int, relu_backward, (const fastact_array *dx, const fastact_array *dy, const fastact_array *x, \
                           const fastact_array *mask, const fastact_options *options)) \
    F(int, leaky_relu, (const fastact_array *y, const fastact_array *mask, const fastact_array *x, double alpha, \
                        const fastact_options *options)) \
    F(int, leaky_relu_backward, (const fastact_array *dx, const fastact_array *dy, const fastact_array *x, \
                                 const fastact_array *mask, double alpha, const fastact_options *options)) \
    F(int, prelu, (const fastact_array *y, const fastact_array *x, const fastact_array *alpha, \
                   const fastact_options *options)) \
    F(int, prelu_backward, (const fastact_array *dx, const fastact_array *dalpha, const fastact_array *dy, \
                            const fastact_array *x, const fastact_array *alpha, const fastact_options *options)) \
    /* A fastact_parallel_for for a host that only schedules; its context is a fastact_scheduler.  The calling thread \
       works through all indices, and tasks that run meanwhile take some of them.  A task that runs later finds \
       nothing to do, and touches nothing of the call. */ \
    F(void, scheduled_for, (void *scheduler, int64_t n, fastact_body body, void *work))

#define FASTACT_POINTER(result, name, arguments) result (*name) arguments;
struct fastact_api {
    uint32_t size;              /* sizeof(struct fastact_api) */
    FASTACT_FUNCTIONS(FASTACT_POINTER)
};
#undef FASTACT_POINTER

#ifdef FASTACT_BY_NAME
#ifndef FASTACT_EXPORT
#define FASTACT_EXPORT
#endif
#define FASTACT_PROTOTYPE(result, name, arguments) FASTACT_EXPORT result fastact_##name arguments;
FASTACT_FUNCTIONS(FASTACT_PROTOTYPE)
#undef FASTACT_PROTOTYPE

#elif defined(Py_PYTHON_H)
static const struct fastact_api *fastact_functions;
static inline int fastact_import(void)
{
    const struct fastact_api *found = NULL;
    PyObject *module = PyImport_ImportModule("fastact._interface");
    PyObject *loaded = module ? PyObject_CallMethod(module, "load_kernels", NULL) : NULL;
    if (loaded) found = (const struct fastact_api *)PyCapsule_Import("fastact._C_API", 0);
    Py_XDECREF(loaded);
    Py_XDECREF(module);
    if (found && found->size < sizeof *found) {
        PyErr_Format(PyExc_ImportError, "the fastact that is installed is older than the header used here");
        found = NULL;
    }
    fastact_functions = found;
    return found ? 0 : -1;
}
#define fastact_relu fastact_functions->relu
#define fastact_relu_backward fastact_functions->relu_backward
#define fastact_leaky_relu fastact_functions->leaky_relu
#define fastact_leaky_relu_backward fastact_functions->leaky_relu_backward
#define fastact_prelu fastact_functions->prelu
#define fastact_prelu_backward fastact_functions->prelu_backward
#define fastact_scheduled_for fastact_functions->scheduled_for
#endif

#ifdef __cplusplus
}
#endif

#endif
