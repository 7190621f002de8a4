/* The part of ONNX Runtime's C interface that _library.c uses, in declarations of our own.

   ONNX Runtime (https://github.com/microsoft/onnxruntime, Copyright Microsoft Corporation) is under the MIT License.
   No code and no text of it is included: names, numbers and the order of entries are facts of its interface.  They were
   compared with version 29 of the interface, and called in ONNX Runtime 1.19.2, 1.24.1 and 1.32.0.

   Its tables only grow at their ends, so an entry keeps its number for ever.  Objects of ONNX Runtime are `void *`. */

#ifndef FASTACT_ONNXRUNTIME_H
#define FASTACT_ONNXRUNTIME_H

#include <stddef.h>
#include <stdint.h>

typedef void (*ort_entry)(void);

/* What a library is given when it is registered.  `table` returns NULL for a version that is newer than the runtime. */
struct ort_base {
    const ort_entry *(*table)(uint32_t version);
    const char *(*runtime_version)(void);
};

enum {
    ORT_FIRST_VERSION = 1,
    ORT_OLDEST_VERSION = 18,            /* ONNX Runtime 1.18: the last callback below */
    ORT_SHAPE_REFERENCE_VERSION = 24    /* the first with ORT_GET_SHAPE_REFERENCE */
};

/* The table's entries, by their numbers; what an entry takes follows it.  `status` is NULL where all went well. */
enum {
    ORT_CREATE_STATUS = 0,              /* int code, const char *message; returns a status */
    ORT_CREATE_DOMAIN = 26,             /* const char *name, void **domain */
    ORT_ADD_OPERATOR = 27,              /* void *domain, const struct ort_operator * */
    ORT_ADD_DOMAIN = 28,                /* void *session_options, void *domain */
    ORT_GET_DATA = 51,                  /* void *value, void **data */
    ORT_GET_AXES = 61,                  /* const void *info, size_t *axes */
    ORT_GET_SHAPE = 62,                 /* const void *info, int64_t *shape, size_t axes */
    ORT_GET_INFO = 65,                  /* const void *value, void **info */
    ORT_GET_INTEGER_ATTRIBUTE = 86,     /* const void *kernel_info, const char *name, int64_t *value */
    ORT_GET_INPUT = 90,                 /* const void *context, size_t index, void **value */
    ORT_GET_OUTPUT = 91,                /* void *context, size_t index, const int64_t *shape, size_t axes, void ** */
    ORT_RELEASE_STATUS = 93,            /* void *status; returns nothing */
    ORT_RELEASE_INFO = 99,              /* void *info; returns nothing */
    ORT_RELEASE_DOMAIN = 101,           /* void *domain; returns nothing */
    ORT_GET_NODE_NAME = 244,            /* const void *kernel_info, char *name, size_t *size */
    ORT_GET_INFERRED_INPUT = 268,       /* const void *inference, size_t index, void **info */
    ORT_SET_INFERRED_OUTPUT = 270,      /* void *inference, size_t index, const void *info */
    ORT_PARALLEL_FOR = 274,             /* const void *context, void (*f)(void *, size_t), size_t n, 0, void * */
    ORT_GET_SHAPE_REFERENCE = 414       /* const void *value, int *type, const int64_t **shape, size_t *axes */
};
/* Calls an entry that returns a status: ORT_CALL(table, ORT_GET_DATA, (void *, void **))(value, &data). */
#define ORT_CALL(table, number, arguments) ((void *(*) arguments)(table)[number])
#define ORT_RELEASE(table, number, object) ((void (*)(void *))(table)[number])(object)

/* Codes of a status. */
enum { ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2, ORT_NOT_IMPLEMENTED = 9 };

/* Types of elements. */
enum { ORT_FLOAT32 = 1, ORT_FLOAT16 = 10, ORT_FLOAT64 = 11, ORT_BFLOAT16 = 16 };

/* What a custom operator consists of: callbacks, by their numbers, each with what it is given.  "op" is the
   struct ort_operator itself. */
enum {
    ORT_OP_CREATE_V1 = 0,               /* op, table, kernel_info; returns the kernel */
    ORT_OP_NAME,                        /* op */
    ORT_OP_PROVIDER,                    /* op; NULL: the CPU's */
    ORT_OP_INPUT_TYPE,                  /* op, index */
    ORT_OP_INPUTS,                      /* op */
    ORT_OP_OUTPUT_TYPE,                 /* op, index */
    ORT_OP_OUTPUTS,                     /* op */
    ORT_OP_COMPUTE_V1,                  /* kernel, context */
    ORT_OP_DESTROY,                     /* kernel */
    ORT_OP_INPUT_KIND,                  /* op, index; 0: required */
    ORT_OP_OUTPUT_KIND,                 /* op, index */
    ORT_OP_INPUT_MEMORY,                /* op, index; 0: the provider's own */
    ORT_OP_VARIADIC,                    /* four callbacks for variadic operands, with op */
    ORT_OP_CREATE = 16,                 /* op, table, kernel_info, void **kernel; returns a status */
    ORT_OP_COMPUTE,                     /* kernel, context; returns a status */
    ORT_OP_INFER_SHAPE,                 /* op, inference; returns a status */
    ORT_OP_START_VERSION,               /* op; the first version of the domain's operators */
    ORT_OP_END_VERSION,                 /* op; the last one */
    ORT_OP_IN_PLACE,                    /* int **inputs, int **outputs; how many pairs may be in place */
    ORT_OP_RELEASE_IN_PLACE,            /* inputs, outputs */
    ORT_OP_ALIASES,                     /* int **inputs, int **outputs; how many pairs are the same memory */
    ORT_OP_RELEASE_ALIASES,             /* inputs, outputs */
    ORT_OP_CALLBACKS
};
struct ort_operator {
    uint32_t version;                   /* of the interface */
    ort_entry callback[ORT_OP_CALLBACKS];
};

#endif
