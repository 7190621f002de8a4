/* The part of XLA's foreign function interface that _handlers.c uses, in declarations of our own.

   XLA (https://github.com/openxla/xla, Copyright The OpenXLA Authors) is under the Apache License 2.0.  No code and no
   text of it is included: names, numbers and the order of fields are facts of its interface.  They were compared with
   its versions 0.1 (jaxlib 0.5.0) and 0.3 (jaxlib 0.10.2); tests/scripts/xla_layout.py compares them with the jaxlib
   that is installed.

   Within version 0 structs only grow at their ends, and each that XLA passes begins with its size.  Objects of XLA are
   `void *`. */

#ifndef FASTACT_XLA_H
#define FASTACT_XLA_H

#include <stddef.h>
#include <stdint.h>

enum {
    XLA_MAJOR = 0,                      /* the version that these declarations are of */
    XLA_MINOR = 3,
    XLA_OLDEST_MINOR = 1
};

/* How each struct begins.  An extension is a struct of a type that follows its head. */
struct xla_extension {
    size_t size;
    int type;
    struct xla_extension *next;
};
struct xla_head {
    size_t size;
    struct xla_extension *extensions;
};

struct xla_version {
    struct xla_head head;
    int major, minor;
};

/* XLA's question about a handler: a call with this extension, in which nothing is computed. */
enum { XLA_METADATA = 1 };
struct xla_metadata {
    size_t size;
    struct xla_version version;         /* the answer */
    uint32_t traits;
};
struct xla_metadata_query {
    struct xla_extension extension;
    struct xla_metadata *metadata;
};

/* Codes of an error, as Abseil numbers them. */
enum {
    XLA_INVALID_ARGUMENT = 3,
    XLA_RESOURCE_EXHAUSTED = 8,
    XLA_UNIMPLEMENTED = 12,
    XLA_INTERNAL = 13
};
struct xla_create_error {
    struct xla_head head;
    const char *message;
    int code;
};
struct xla_destroy_error {
    struct xla_head head;
    void *error;
};
struct xla_schedule {
    struct xla_head head;
    void *context;
    void (*task)(void *);
    void *argument;
};
struct xla_count_threads {
    struct xla_head head;
    void *context;
    int64_t *threads;                   /* the answer */
};

/* XLA's functions.  Where one returns a pointer it is an error, NULL where all went well. */
struct xla_api {
    struct xla_head head;
    struct xla_version version;
    void *internal;
    void *(*create_error)(struct xla_create_error *);       /* returns the error */
    void *get_message;
    void (*destroy_error)(struct xla_destroy_error *);
    void *unused[8];
    void *(*schedule)(struct xla_schedule *);
    void *(*count_threads)(struct xla_count_threads *);     /* fails where there is no pool */
};

/* Types of elements. */
enum { XLA_FLOAT16 = 10, XLA_FLOAT32 = 11, XLA_FLOAT64 = 12, XLA_BFLOAT16 = 16 };
enum { XLA_BUFFER = 1 };                /* the only kind of argument and of result */
struct xla_buffer {
    struct xla_head head;
    int type;
    void *data;
    int64_t axes;
    int64_t *shape;
};
struct xla_buffers {
    struct xla_head head;
    int64_t number;
    int *kinds;
    struct xla_buffer **buffers;
};

enum { XLA_EXECUTE = 3 };               /* the stage of a call in which handlers compute */
struct xla_call {
    struct xla_head head;
    const struct xla_api *api;
    void *context;
    int stage;
    struct xla_buffers arguments, results;
};

#endif
