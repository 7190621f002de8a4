/* What we use of DLPack 1.x (github.com/dmlc/dlpack): an array in memory, and the functions by which a library
   exchanges its tensors without Python calls.  torch has these since 2.11, as
   torch.Tensor.__dlpack_c_exchange_api__. */

#ifndef FASTACT_DLPACK_H
#define FASTACT_DLPACK_H

#include <stdint.h>

enum { DL_CPU = 1, DL_FLOAT = 2, DL_BFLOAT = 4, DL_MAJOR = 1 };

typedef struct {
    void *data;
    int32_t device_type, device_id, ndim;
    uint8_t code, bits;
    uint16_t lanes;
    int64_t *shape, *strides;   /* in elements */
    uint64_t byte_offset;
} fa_dltensor;

typedef struct fa_dlmanaged {
    uint32_t major, minor;
    void *manager;
    void (*deleter)(struct fa_dlmanaged *self);
    uint64_t flags;
    fa_dltensor tensor;
} fa_dlmanaged;

typedef struct {
    uint32_t major, minor;
    void *older;
    void *allocate, *managed_from_object;
    int (*object_from_managed)(fa_dlmanaged *managed, void **object);
    int (*tensor_from_object)(void *object, fa_dltensor *tensor);
    void *stream;
} fa_dlexchange;

_Static_assert(sizeof(fa_dltensor) == 48 && sizeof(fa_dlmanaged) == 80, "DLPack's layout on 64-bit machines");

#endif
