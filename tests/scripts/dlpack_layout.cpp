/* fastact/torch/dlpack.h says what torch's own header says.  Compiled against an installed torch, never run. */

#define _Static_assert static_assert
#include <cstddef>
#include "../../fastact/torch/dlpack.h"
#include "ATen/dlpack.h"

#define SAME(ours, field, theirs, name) \
    static_assert(offsetof(ours, field) == offsetof(theirs, name) && \
                  sizeof(ours::field) == sizeof(theirs::name), #theirs "::" #name)

static_assert(sizeof(fa_dltensor) == sizeof(DLTensor), "DLTensor");
SAME(fa_dltensor, data, DLTensor, data);
SAME(fa_dltensor, device_type, DLTensor, device.device_type);
SAME(fa_dltensor, device_id, DLTensor, device.device_id);
SAME(fa_dltensor, ndim, DLTensor, ndim);
SAME(fa_dltensor, code, DLTensor, dtype.code);
SAME(fa_dltensor, bits, DLTensor, dtype.bits);
SAME(fa_dltensor, lanes, DLTensor, dtype.lanes);
SAME(fa_dltensor, shape, DLTensor, shape);
SAME(fa_dltensor, strides, DLTensor, strides);
SAME(fa_dltensor, byte_offset, DLTensor, byte_offset);

static_assert(sizeof(fa_dlmanaged) == sizeof(DLManagedTensorVersioned), "DLManagedTensorVersioned");
SAME(fa_dlmanaged, major, DLManagedTensorVersioned, version.major);
SAME(fa_dlmanaged, minor, DLManagedTensorVersioned, version.minor);
SAME(fa_dlmanaged, manager, DLManagedTensorVersioned, manager_ctx);
SAME(fa_dlmanaged, deleter, DLManagedTensorVersioned, deleter);
SAME(fa_dlmanaged, flags, DLManagedTensorVersioned, flags);
SAME(fa_dlmanaged, tensor, DLManagedTensorVersioned, dl_tensor);

SAME(fa_dlexchange, major, DLPackExchangeAPI, header.version.major);
SAME(fa_dlexchange, minor, DLPackExchangeAPI, header.version.minor);
SAME(fa_dlexchange, older, DLPackExchangeAPI, header.prev_api);
SAME(fa_dlexchange, object_from_managed, DLPackExchangeAPI, managed_tensor_to_py_object_no_sync);
SAME(fa_dlexchange, tensor_from_object, DLPackExchangeAPI, dltensor_from_py_object_no_sync);
static_assert(sizeof(fa_dlexchange) <= sizeof(DLPackExchangeAPI), "DLPackExchangeAPI");

static_assert((int)DL_CPU == (int)kDLCPU && (int)DL_FLOAT == (int)kDLFloat && (int)DL_BFLOAT == (int)kDLBfloat &&
              DL_MAJOR == DLPACK_MAJOR_VERSION, "DLPack's numbers");

/* What the functions take and give. */
static DLPackManagedTensorToPyObjectNoSync object_from_managed;
static DLPackDLTensorFromPyObjectNoSync tensor_from_object;
static_assert(sizeof(object_from_managed((DLManagedTensorVersioned *)0, (void **)0)) == sizeof(int), "");
static_assert(sizeof(tensor_from_object((void *)0, (DLTensor *)0)) == sizeof(int), "");
