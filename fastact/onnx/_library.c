/* PRelu for ONNX Runtime: a library of custom operators that runs fastact's C functions on the session's threads.

   ONNX Runtime loads the file of this extension module by its path and calls RegisterCustomOps.  Python has imported
   the same file before (fastact.onnx.library_path() does), and thereby looked fastact's functions up: the loader keeps
   one copy of a file, with one set of variables.

   Two domains get the operator.  In "" (ONNX's own) it takes the place of the built-in one.  In "fastact" it serves the
   nodes that fastact.onnx.accelerate() moved there.  Every failure is a status. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "fastact.h"
#include "onnxruntime.h"

#define EXPORTED __attribute__((visibility("default")))
#define NAME "PRelu"
#define DOMAIN "fastact"
#define LAST_VERSION 1000               /* of an operator set: there will be no later one */
#define CHANNEL_AXIS "channel_axis"     /* an attribute: the axis of X that a 1-D slope belongs to; default: the last */
enum { MOST_AXES = 64, MOST_THREADS = 256 };

/* The operator for one type of elements. */
struct prelu {
    struct ort_operator op;             /* first: ONNX Runtime passes its address */
    const ort_entry *table;
    int type, dtype;                    /* of elements, for ONNX Runtime and for fastact */
    const char *type_name;
    int first_version;
};

/* The operator for one node of a session. */
struct kernel {
    const ort_entry *table;
    const struct prelu *prelu;
    int shape_reference;                /* whether a shape can be read where it lies */
    int32_t channel_axis;
    char node[];
};

/* A tensor, with room for a shape that has to be copied. */
struct tensor {
    fastact_array array;
    int64_t shape[MOST_AXES];
};

static void *status_of(const ort_entry *table, int code, const char *message)
{
    return ORT_CALL(table, ORT_CREATE_STATUS, (int, const char *))(code, message);
}

/* ---- one call ---------------------------------------------------------------------------------------------------- */

/* A loop over the session's threads.  ONNX Runtime calls `step` n times, in any order, and each call takes the next
   index.  If ONNX Runtime fails, the caller runs the indices that no call has taken. */
struct loop {
    fastact_body body;
    void *work;
    int64_t n, next;
};

static int take(struct loop *loop)
{
    const int64_t i = __atomic_fetch_add(&loop->next, 1, __ATOMIC_RELAXED);
    if (i < loop->n) loop->body(loop->work, i);
    return i < loop->n;
}

static void step(void *loop, size_t index)
{
    (void)index;
    take(loop);
}

struct session {
    const ort_entry *table;
    void *context;
};

static void on_session_threads(void *session, int64_t n, fastact_body body, void *work)
{
    const struct session *s = session;
    struct loop loop = {body, work, n, 0};
    void *status = ORT_CALL(s->table, ORT_PARALLEL_FOR,
                            (const void *, void (*)(void *, size_t), size_t, size_t, void *))
        (s->context, step, (size_t)n, 0, &loop);
    if (!status) return;
    ORT_RELEASE(s->table, ORT_RELEASE_STATUS, status);
    while (take(&loop)) {}
}

/* Fills in a tensor's shape.  Returns NULL or a status. */
static void *read_shape(const struct kernel *kernel, const void *value, struct tensor *tensor)
{
    const ort_entry *table = kernel->table;
    size_t axes = 0;
    void *info, *status;
    if (kernel->shape_reference) {
        int type;
        status = ORT_CALL(table, ORT_GET_SHAPE_REFERENCE, (const void *, int *, const int64_t **, size_t *))
            (value, &type, &tensor->array.shape, &axes);
        tensor->array.ndim = (int32_t)axes;
        return status;
    }
    status = ORT_CALL(table, ORT_GET_INFO, (const void *, void **))(value, &info);
    if (status) return status;
    status = ORT_CALL(table, ORT_GET_AXES, (const void *, size_t *))(info, &axes);
    if (!status && axes > MOST_AXES)
        status = status_of(table, ORT_INVALID_ARGUMENT, "fastact: " NAME ": a tensor has more than 64 axes");
    if (!status) status = ORT_CALL(table, ORT_GET_SHAPE, (const void *, int64_t *, size_t))(info, tensor->shape, axes);
    ORT_RELEASE(table, ORT_RELEASE_INFO, info);
    tensor->array.shape = tensor->shape;
    tensor->array.ndim = (int32_t)axes;
    return status;
}

static void *read_input(const struct kernel *kernel, void *context, size_t index, struct tensor *tensor)
{
    const ort_entry *table = kernel->table;
    void *value = NULL;
    void *status = ORT_CALL(table, ORT_GET_INPUT, (const void *, size_t, void **))(context, index, &value);
    if (!status && !value) status = status_of(table, ORT_INVALID_ARGUMENT, "fastact: " NAME ": an input is missing");
    if (!status) status = read_shape(kernel, value, tensor);
    if (!status) status = ORT_CALL(table, ORT_GET_DATA, (void *, void **))(value, &tensor->array.data);
    return status;
}

/* A shape as text, cut where there is no room. */
static const char *shape_text(const fastact_array *array, char *text, size_t size)
{
    size_t used = 1;
    int32_t k;
    memcpy(text, "(", 2);
    for (k = 0; k < array->ndim && used + 24 < size; k++)
        used += (size_t)snprintf(text + used, size - used, "%s%" PRId64, k ? "," : "", array->shape[k]);
    snprintf(text + used, size - used, k < array->ndim ? ",...)" : ")");
    return text;
}

static void *failure(const struct kernel *kernel, int code, const fastact_array *x, const fastact_array *slope,
                     const char *why)
{
    char x_shape[128], slope_shape[128], message[1024];
    const char *type = kernel->prelu->type_name;
    snprintf(message, sizeof message, "fastact: " NAME " node '%.256s', X %s %s, slope %s %s: %s", kernel->node, type,
             shape_text(x, x_shape, sizeof x_shape), type, shape_text(slope, slope_shape, sizeof slope_shape), why);
    return status_of(kernel->table, code, message);
}

/* Whether slope broadcasts to x, aligned at the end as ONNX says.  A slope of one element always does. */
static int broadcasts(const fastact_array *slope, const fastact_array *x, int32_t channel_axis)
{
    const int32_t ahead = x->ndim - slope->ndim;
    int64_t elements = 1;
    int fits = 1;
    int32_t k;
    for (k = 0; k < slope->ndim; k++) {
        elements *= slope->shape[k];
        fits &= ahead + k >= 0 && (slope->shape[k] == 1 || slope->shape[k] == x->shape[ahead + k]);
    }
    if (slope->ndim == 1 && channel_axis >= 0)
        fits = channel_axis < x->ndim && slope->shape[0] == x->shape[channel_axis];
    return fits || elements == 1;
}

static void *compute(void *of_node, void *context)
{
    const struct kernel *kernel = of_node;
    const int dtype = kernel->prelu->dtype;
    struct tensor x, slope;
    fastact_array y;
    struct session session = {kernel->table, context};
    fastact_options options = fastact_default_options();
    char message[256];
    void *value, *status;
    int result;
    x.array.size = slope.array.size = sizeof y;
    x.array.dtype = slope.array.dtype = dtype;
    x.array.strides = slope.array.strides = NULL;
    status = read_input(kernel, context, 0, &x);
    if (!status) status = read_input(kernel, context, 1, &slope);
    if (status) return status;
    if (!broadcasts(&slope.array, &x.array, kernel->channel_axis))
        return failure(kernel, ORT_INVALID_ARGUMENT, &x.array, &slope.array, "slope does not broadcast to X");
    y = x.array;
    status = ORT_CALL(kernel->table, ORT_GET_OUTPUT, (void *, size_t, const int64_t *, size_t, void **))
        (context, 0, y.shape, (size_t)y.ndim, &value);
    if (!status) status = ORT_CALL(kernel->table, ORT_GET_DATA, (void *, void **))(value, &y.data);
    if (status) return status;
    options.n_threads = MOST_THREADS;   /* the session's number of threads decides */
    options.source = FASTACT_SOURCE_CALLER;
    options.channel_axis = kernel->channel_axis;
    options.parallel_for = on_session_threads;
    options.context = &session;
    options.message = message;
    options.message_size = sizeof message;
    result = fastact_prelu(&y, &x.array, &slope.array, &options);
    if (result == FASTACT_OK) return NULL;
    return failure(kernel,
                   result == FASTACT_NOT_YET ? ORT_NOT_IMPLEMENTED
                   : result == FASTACT_BAD_VALUE || result == FASTACT_BAD_TYPE ? ORT_INVALID_ARGUMENT : ORT_FAIL,
                   &x.array, &slope.array, message);
}

/* ---- the operator ------------------------------------------------------------------------------------------------ */

static void *create(const void *op, const ort_entry *table, const void *info, void **of_node)
{
    const struct prelu *prelu = op;
    size_t size = 0;
    int64_t axis;
    struct kernel *kernel;
    void *status = ORT_CALL(table, ORT_GET_NODE_NAME, (const void *, char *, size_t *))(info, NULL, &size);
    if (status) return status;
    kernel = malloc(sizeof *kernel + size + 1);
    if (!kernel) return status_of(table, ORT_FAIL, "fastact: no memory for a kernel of " NAME);
    kernel->node[size] = 0;
    status = ORT_CALL(table, ORT_GET_NODE_NAME, (const void *, char *, size_t *))(info, kernel->node, &size);
    if (status) {
        free(kernel);
        return status;
    }
    status = ORT_CALL(table, ORT_GET_INTEGER_ATTRIBUTE, (const void *, const char *, int64_t *))
        (info, CHANNEL_AXIS, &axis);
    if (status) {                       /* the node has no such attribute */
        ORT_RELEASE(table, ORT_RELEASE_STATUS, status);
        axis = -1;
    }
    kernel->table = table;
    kernel->prelu = prelu;
    kernel->shape_reference = prelu->op.version >= ORT_SHAPE_REFERENCE_VERSION;
    kernel->channel_axis = (int32_t)axis;
    *of_node = kernel;
    return NULL;
}

static void destroy(void *kernel) { free(kernel); }

/* y has X's shape.  X without axes is a scalar or of unknown shape, and this function cannot tell which, so it sets no
   shape then. */
static void *infer_shape(const void *op, void *inference)
{
    const ort_entry *table = ((const struct prelu *)op)->table;
    void *info = NULL;
    size_t axes = 0;
    void *status = ORT_CALL(table, ORT_GET_INFERRED_INPUT, (const void *, size_t, void **))(inference, 0, &info);
    if (!status && info) status = ORT_CALL(table, ORT_GET_AXES, (const void *, size_t *))(info, &axes);
    if (!status && axes)
        status = ORT_CALL(table, ORT_SET_INFERRED_OUTPUT, (void *, size_t, const void *))(inference, 0, info);
    return status;
}

static const char *get_name(const void *op) { (void)op; return NAME; }
static const char *get_provider(const void *op) { (void)op; return NULL; }
static int get_type(const void *op, size_t index) { (void)index; return ((const struct prelu *)op)->type; }
static size_t get_inputs(const void *op) { (void)op; return 2; }
static size_t get_outputs(const void *op) { (void)op; return 1; }
static int get_zero(const void *op, size_t index) { (void)op; (void)index; return 0; }
static int get_one(const void *op) { (void)op; return 1; }
static int get_first(const void *op) { return ((const struct prelu *)op)->first_version; }
static int get_last(const void *op) { (void)op; return LAST_VERSION; }

/* y may take X's memory (one pair), but never has to (no aliases). */
static size_t get_in_place(int **inputs, int **outputs)
{
    static int first;
    *inputs = *outputs = &first;
    return 1;
}
static size_t get_aliases(int **inputs, int **outputs) { *inputs = *outputs = NULL; return 0; }
static void release_pairs(int *inputs, int *outputs) { (void)inputs; (void)outputs; }

#define CALLBACK(function) (ort_entry)(function)
static const ort_entry CALLBACKS[ORT_OP_CALLBACKS] = {
    [ORT_OP_NAME] = CALLBACK(get_name),
    [ORT_OP_PROVIDER] = CALLBACK(get_provider),
    [ORT_OP_INPUT_TYPE] = CALLBACK(get_type),
    [ORT_OP_INPUTS] = CALLBACK(get_inputs),
    [ORT_OP_OUTPUT_TYPE] = CALLBACK(get_type),
    [ORT_OP_OUTPUTS] = CALLBACK(get_outputs),
    [ORT_OP_DESTROY] = CALLBACK(destroy),
    [ORT_OP_INPUT_KIND] = CALLBACK(get_zero),
    [ORT_OP_OUTPUT_KIND] = CALLBACK(get_zero),
    [ORT_OP_INPUT_MEMORY] = CALLBACK(get_zero),
    [ORT_OP_VARIADIC] = CALLBACK(get_one),
    [ORT_OP_VARIADIC + 1] = CALLBACK(get_one),
    [ORT_OP_VARIADIC + 2] = CALLBACK(get_one),
    [ORT_OP_VARIADIC + 3] = CALLBACK(get_one),
    [ORT_OP_CREATE] = CALLBACK(create),
    [ORT_OP_COMPUTE] = CALLBACK(compute),
    [ORT_OP_INFER_SHAPE] = CALLBACK(infer_shape),
    [ORT_OP_START_VERSION] = CALLBACK(get_first),
    [ORT_OP_END_VERSION] = CALLBACK(get_last),
    [ORT_OP_IN_PLACE] = CALLBACK(get_in_place),
    [ORT_OP_RELEASE_IN_PLACE] = CALLBACK(release_pairs),
    [ORT_OP_ALIASES] = CALLBACK(get_aliases),
    [ORT_OP_RELEASE_ALIASES] = CALLBACK(release_pairs),
};

/* ---- registration ------------------------------------------------------------------------------------------------ */

/* The types that PRelu is registered for.  The operators of domain "" replace ONNX's own as a whole, so in a session
   with the library PRelu of any other type is an error. */
static const struct { int type, dtype; const char *name; } TYPES[] = {
    {ORT_FLOAT32, FASTACT_FLOAT32, "float32"},
    {ORT_FLOAT64, FASTACT_FLOAT64, "float64"},
    {ORT_FLOAT16, FASTACT_FLOAT16, "float16"},
    {ORT_BFLOAT16, FASTACT_BFLOAT16, "bfloat16"},
};
/* An operator serves the nodes whose definition in ONNX (of version 1, 6, 7, 9 or 16) is not older than its first
   version.  Before version 7 a slope of one axis had another meaning. */
static const struct { const char *name; int first_version; } DOMAINS[] = {{"", 7}, {DOMAIN, 1}};
enum { N_TYPES = sizeof TYPES / sizeof *TYPES, N_DOMAINS = sizeof DOMAINS / sizeof *DOMAINS };

/* The operators of one copy of ONNX Runtime, for all of its sessions.  They are never freed: a session may outlive
   Python. */
struct registration {
    const struct ort_base *base;
    void *domains[N_DOMAINS];
    struct prelu prelus[N_DOMAINS][N_TYPES];
};
static struct registration *registration;   /* of the first copy in this process; there is rarely another one */

static void discard(const ort_entry *table, struct registration *r)
{
    int d;
    for (d = 0; d < N_DOMAINS; d++)
        if (r->domains[d]) ORT_RELEASE(table, ORT_RELEASE_DOMAIN, r->domains[d]);
    free(r);
}

/* A new registration in *made, or a status. */
static void *make(const struct ort_base *base, const ort_entry *table, uint32_t version, struct registration **made)
{
    struct registration *r = calloc(1, sizeof *r);
    void *status = NULL;
    int d, t;
    if (!r) return status_of(table, ORT_FAIL, "fastact: no memory for the operators");
    r->base = base;
    for (d = 0; d < N_DOMAINS && !status; d++) {
        status = ORT_CALL(table, ORT_CREATE_DOMAIN, (const char *, void **))(DOMAINS[d].name, &r->domains[d]);
        for (t = 0; t < N_TYPES && !status; t++) {
            struct prelu *prelu = &r->prelus[d][t];
            prelu->op.version = version;
            memcpy(prelu->op.callback, CALLBACKS, sizeof CALLBACKS);
            prelu->table = table;
            prelu->type = TYPES[t].type;
            prelu->dtype = TYPES[t].dtype;
            prelu->type_name = TYPES[t].name;
            prelu->first_version = DOMAINS[d].first_version;
            status = ORT_CALL(table, ORT_ADD_OPERATOR, (void *, const void *))(r->domains[d], prelu);
        }
    }
    if (status) discard(table, r);
    else *made = r;
    return status;
}

EXPORTED void *RegisterCustomOps(void *session_options, const struct ort_base *base);
EXPORTED void *RegisterCustomOps(void *session_options, const struct ort_base *base)
{
    struct registration *r = __atomic_load_n(&registration, __ATOMIC_ACQUIRE), *nobody = NULL;
    const ort_entry *table;
    char message[256];
    int d, major = 0, minor = 0;
    void *status = NULL;
    /* A runtime that lacks a version says so on the standard error stream: its own version is asked for first. */
    sscanf(base->runtime_version(), "%d.%d", &major, &minor);
    table = major == 1 && minor < ORT_OLDEST_VERSION ? NULL : base->table(ORT_OLDEST_VERSION);
    if (!table) {
        table = base->table(ORT_FIRST_VERSION);
        snprintf(message, sizeof message, "fastact: the operators need ONNX Runtime 1.%d or newer, and this is %.64s",
                 ORT_OLDEST_VERSION, base->runtime_version());
        return status_of(table, ORT_NOT_IMPLEMENTED, message);
    }
    if (!fastact_functions)
        return status_of(table, ORT_FAIL, "fastact: the process has not imported the library: "
                         "call fastact.onnx.library_path() for its path");
    if (!r || r->base != base) {
        const uint32_t version = major == 1 && minor >= ORT_SHAPE_REFERENCE_VERSION ? ORT_SHAPE_REFERENCE_VERSION
                                                                                   : ORT_OLDEST_VERSION;
        status = make(base, table, version, &r);
        if (status) return status;
        if (!__atomic_compare_exchange_n(&registration, &nobody, r, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)
                && nobody->base == base) {  /* another thread was faster */
            discard(table, r);
            r = nobody;
        }
    }
    for (d = 0; d < N_DOMAINS && !status; d++)
        status = ORT_CALL(table, ORT_ADD_DOMAIN, (void *, void *))(session_options, r->domains[d]);
    return status;
}

/* ---- the module -------------------------------------------------------------------------------------------------- */

static int prepare(PyObject *module)
{
    (void)module;
    return fastact_import();
}

static PyModuleDef_Slot SLOTS[] = {
    {Py_mod_exec, (void *)prepare},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_library", "PRelu for ONNX Runtime.", 0, NULL, SLOTS,
                                    NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__library(void);
EXPORTED PyObject *PyInit__library(void) { return PyModuleDef_Init(&MODULE); }
