/* fastact's functions as handlers of XLA's foreign function interface, for CPUs.

   A handler gets buffers in C order and runs a function of fastact.h on them.  The calling thread works, and tasks that
   XLA's thread pool runs meanwhile help it.  XLA sets its threads to replace denormal numbers by zero; a handler
   computes in the default floating-point mode, as the contract says.  Every failure is an error of XLA.

   The module's `capsules` are what jax.ffi.register_ffi_target takes: each holds a handler, and has no name. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "fastact.h"
#include "float_mode.h"
#include "xla.h"

#if defined(__x86_64__) || defined(__i386__)
#define DEFAULT_MODE 0x1f80     /* round to nearest, keep denormal numbers, raise nothing */
#else
#define DEFAULT_MODE 0
#endif
enum { MOST_BUFFERS = 5, MOST_THREADS = 1 << 16 };

/* Whether XLA's struct reaches to the end of a field. */
#define HAS(object, field) \
    ((object)->head.size >= offsetof(__typeof__(*(object)), field) + sizeof (object)->field)

/* What a handler computes: results first, in the order in which XLA passes them, then arguments. */
struct function {
    const char *name;
    int results, arguments;
    int (*run)(const fastact_array *, const fastact_options *);
};

static void *failure(const struct xla_call *call, const struct function *function, int code, const char *why)
{
    char message[512];
    struct xla_create_error error = {{sizeof error, NULL}, message, code};
    snprintf(message, sizeof message, "fastact: %s: %s", function->name, why);
    return call->api->create_error(&error);
}

static void discard(const struct xla_api *api, void *error)
{
    struct xla_destroy_error destroy = {{sizeof destroy, NULL}, error};
    api->destroy_error(&destroy);
}

/* A fastact_scheduler's function. */
static int schedule(void *call, fastact_task task, void *argument)
{
    const struct xla_call *c = call;
    struct xla_schedule order = {{sizeof order, NULL}, c->context, task, argument};
    void *error = c->api->schedule(&order);
    if (error) discard(c->api, error);
    return error != NULL;
}

/* How many threads XLA's pool has; 1 where there is none, or where XLA does not let one use it. */
static int32_t threads_of(const struct xla_call *call)
{
    int64_t threads = 1;
    struct xla_count_threads count = {{sizeof count, NULL}, call->context, &threads};
    void *error;
    if (!HAS(call->api, count_threads)) return 1;
    error = call->api->count_threads(&count);
    if (error) {
        discard(call->api, error);
        return 1;
    }
    return threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : (int32_t)threads;
}

static int dtype_of(int type)
{
    switch (type) {
    case XLA_FLOAT16: return FASTACT_FLOAT16;
    case XLA_BFLOAT16: return FASTACT_BFLOAT16;
    case XLA_FLOAT32: return FASTACT_FLOAT32;
    case XLA_FLOAT64: return FASTACT_FLOAT64;
    default: return 0;
    }
}

/* Fills in arrays; what is wrong with the buffers, or NULL. */
static const char *read_buffers(const struct xla_buffers *buffers, int number, fastact_array *arrays)
{
    int k;
    if (!HAS(buffers, buffers) || buffers->number != number) return "another number of buffers than the function has";
    for (k = 0; k < number; k++) {
        const struct xla_buffer *buffer = buffers->buffers[k];
        if (buffers->kinds[k] != XLA_BUFFER || !HAS(buffer, shape)) return "an operand is no buffer";
        if (buffer->axes != (int32_t)buffer->axes) return "a buffer has too many axes";
        arrays[k].size = sizeof arrays[k];
        arrays[k].dtype = dtype_of(buffer->type);
        arrays[k].ndim = (int32_t)buffer->axes;
        arrays[k].data = buffer->data;
        arrays[k].shape = buffer->shape;
        arrays[k].strides = NULL;
        if (!arrays[k].dtype) return "a buffer's type is not float16, bfloat16, float32 or float64";
    }
    return NULL;
}

static const struct xla_metadata_query *asked(const struct xla_call *call)
{
    const struct xla_extension *extension = call->head.extensions;
    while (extension && extension->type != XLA_METADATA) extension = extension->next;
    return (const struct xla_metadata_query *)extension;
}

/* Tells XLA for which version of its interface the handlers are made: the newest that both sides know, or the oldest
   that we know if XLA's own is not known.  XLA refuses handlers whose version it does not support. */
static void *answer(const struct xla_call *call, const struct xla_metadata_query *query)
{
    const struct xla_version *theirs = call->api && HAS(call->api, version) ? &call->api->version : NULL;
    int minor = theirs && theirs->major == XLA_MAJOR ? theirs->minor : XLA_OLDEST_MINOR;
    if (minor < XLA_OLDEST_MINOR) minor = XLA_OLDEST_MINOR;
    if (minor > XLA_MINOR) minor = XLA_MINOR;
    query->metadata->version.major = XLA_MAJOR;
    query->metadata->version.minor = minor;
    query->metadata->traits = 0;
    return NULL;
}

static void *handle(const struct xla_call *call, const struct function *function)
{
    fastact_array arrays[MOST_BUFFERS];
    fastact_scheduler scheduler = {sizeof scheduler, 0, schedule, (void *)call};
    fastact_options options = fastact_default_options();
    const struct xla_metadata_query *query = asked(call);
    const struct xla_api *api = call->api;
    const char *wrong;
    char message[384];
    fa_mode mode;
    int status;
    if (query) return answer(call, query);
    if (api->version.major != XLA_MAJOR || api->version.minor < XLA_OLDEST_MINOR || !HAS(call, results)) {
        snprintf(message, sizeof message, "XLA's foreign function interface has version %d.%d here, and %d.%d or a "
                 "later %d.x is needed", api->version.major, api->version.minor, XLA_MAJOR, XLA_OLDEST_MINOR,
                 XLA_MAJOR);
        return failure(call, function, XLA_UNIMPLEMENTED, message);
    }
    if (call->stage != XLA_EXECUTE)
        return failure(call, function, XLA_INTERNAL, "called in another stage than execute");
    wrong = read_buffers(&call->results, function->results, arrays);
    if (!wrong) wrong = read_buffers(&call->arguments, function->arguments, arrays + function->results);
    if (wrong) return failure(call, function, XLA_INVALID_ARGUMENT, wrong);
    options.n_threads = threads_of(call);
    scheduler.workers = options.n_threads - 1;
    options.source = FASTACT_SOURCE_CALLER;
    options.channel_axis = -1;          /* alpha has x's number of axes: this is for a single one */
    options.parallel_for = fastact_scheduled_for;
    options.context = &scheduler;
    options.message = message;
    options.message_size = sizeof message;
    mode = fa_get_mode();
    if (mode != DEFAULT_MODE) fa_set_mode(DEFAULT_MODE);
    status = function->run(arrays, &options);
    if (mode != DEFAULT_MODE) fa_set_mode(mode);
    if (status == FASTACT_OK) return NULL;
    return failure(call, function,
                   status == FASTACT_NO_MEMORY ? XLA_RESOURCE_EXHAUSTED
                   : status == FASTACT_BAD_VALUE || status == FASTACT_BAD_TYPE ? XLA_INVALID_ARGUMENT : XLA_INTERNAL,
                   message);
}

/* ---- the handlers ------------------------------------------------------------------------------------------------ */

static int relu(const fastact_array *a, const fastact_options *options)
{
    return fastact_relu(&a[0], NULL, &a[1], options);
}
static int relu_backward(const fastact_array *a, const fastact_options *options)
{
    return fastact_relu_backward(&a[0], &a[1], &a[2], NULL, options);
}
static int prelu(const fastact_array *a, const fastact_options *options)
{
    return fastact_prelu(&a[0], &a[1], &a[2], options);
}
static int prelu_dx(const fastact_array *a, const fastact_options *options)
{
    return fastact_prelu_backward(&a[0], NULL, &a[1], &a[2], &a[3], options);
}
static int prelu_dalpha(const fastact_array *a, const fastact_options *options)
{
    return fastact_prelu_backward(NULL, &a[0], &a[1], &a[2], &a[3], options);
}
static int prelu_backward(const fastact_array *a, const fastact_options *options)
{
    return fastact_prelu_backward(&a[0], &a[1], &a[2], &a[3], &a[4], options);
}

/* name, results, arguments */
#define HANDLERS(H) \
    H(relu, 1, 1) H(relu_backward, 1, 2) H(prelu, 1, 2) H(prelu_dx, 1, 3) H(prelu_dalpha, 1, 3) H(prelu_backward, 2, 3)

#define HANDLER(name, results, arguments) \
    static void *handle_##name(struct xla_call *call) \
    { \
        static const struct function function = {#name, results, arguments, name}; \
        return handle(call, &function); \
    }
HANDLERS(HANDLER)

/* ---- the module -------------------------------------------------------------------------------------------------- */

static int prepare(PyObject *module)
{
    PyObject *capsules = PyDict_New(), *capsule;
    int failed = !capsules || fastact_import();
#define ADD(name, results, arguments) \
    if (!failed) { \
        capsule = PyCapsule_New((void *)handle_##name, NULL, NULL); \
        failed = !capsule || PyDict_SetItemString(capsules, #name, capsule); \
        Py_XDECREF(capsule); \
    }
    HANDLERS(ADD)
    failed = failed || PyModule_AddObjectRef(module, "capsules", capsules);
    Py_XDECREF(capsules);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot SLOTS[] = {
    {Py_mod_exec, (void *)prepare},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_handlers", "Handlers for XLA on CPUs.", 0, NULL, SLOTS,
                                    NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__handlers(void);
PyMODINIT_FUNC PyInit__handlers(void) { return PyModuleDef_Init(&MODULE); }
