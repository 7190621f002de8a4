"""Compare fastact/jax/xla.h with the header of the installed jaxlib: a compiler checks each number and field."""

import os
import shlex
import subprocess
import sysconfig
import tempfile
from pathlib import Path

import jax

OURS = Path(__file__).parents[2] / "fastact" / "jax"
# Our struct: XLA's, and XLA's name of each of our fields; in the end XLA's name of the last field that is used.
STRUCTS = {
    "xla_extension": ("Extension_Base", {"size": "struct_size", "type": "type", "next": "next"}),
    "xla_version": ("Api_Version", {"major": "major_version", "minor": "minor_version"}),
    "xla_metadata": ("Metadata", {"size": "struct_size", "version": "api_version", "traits": "traits"}),
    "xla_metadata_query": ("Metadata_Extension", {"extension": "extension_base", "metadata": "metadata"}),
    "xla_create_error": ("Error_Create_Args", {"message": "message", "code": "errc"}),
    "xla_destroy_error": ("Error_Destroy_Args", {"error": "error"}),
    "xla_schedule": ("ThreadPool_Schedule_Args", {"context": "ctx", "task": "task", "argument": "data"}),
    "xla_count_threads": ("ThreadPool_NumThreads_Args", {"context": "ctx", "threads": "num_threads"}),
    "xla_api": (
        "Api",
        {
            "version": "api_version",
            "create_error": "XLA_FFI_Error_Create",
            "destroy_error": "XLA_FFI_Error_Destroy",
            "schedule": "XLA_FFI_ThreadPool_Schedule",
            "count_threads": "XLA_FFI_ThreadPool_NumThreads",
        },
    ),
    "xla_buffer": ("Buffer", {"type": "dtype", "data": "data", "axes": "rank", "shape": "dims"}),
    "xla_buffers": ("Args", {"number": "size", "kinds": "types", "buffers": "args"}),
    "xla_call": (
        "CallFrame",
        {"api": "api", "context": "ctx", "stage": "stage", "arguments": "args", "results": "rets"},
    ),
}
# Arguments of functions are ours, and XLA may read all that it knows.
WHOLE = {"xla_create_error", "xla_destroy_error", "xla_schedule", "xla_count_threads", "xla_version", "xla_buffers"}
NUMBERS = {
    "XLA_MAJOR": "XLA_FFI_API_MAJOR",
    "XLA_METADATA": "XLA_FFI_Extension_Metadata",
    "XLA_INVALID_ARGUMENT": "XLA_FFI_Error_Code_INVALID_ARGUMENT",
    "XLA_RESOURCE_EXHAUSTED": "XLA_FFI_Error_Code_RESOURCE_EXHAUSTED",
    "XLA_UNIMPLEMENTED": "XLA_FFI_Error_Code_UNIMPLEMENTED",
    "XLA_INTERNAL": "XLA_FFI_Error_Code_INTERNAL",
    "XLA_FLOAT16": "XLA_FFI_DataType_F16",
    "XLA_BFLOAT16": "XLA_FFI_DataType_BF16",
    "XLA_FLOAT32": "XLA_FFI_DataType_F32",
    "XLA_FLOAT64": "XLA_FFI_DataType_F64",
    "XLA_BUFFER": "XLA_FFI_ArgType_BUFFER",
    "(int)XLA_BUFFER": "(int)XLA_FFI_RetType_BUFFER",
    "XLA_EXECUTE": "XLA_FFI_ExecutionStage_EXECUTE",
}


def checks():
    """Conditions in C."""
    yield "XLA_OLDEST_MINOR <= XLA_FFI_API_MINOR && XLA_FFI_API_MINOR <= XLA_MINOR"
    for ours, theirs in NUMBERS.items():
        yield f"(int){ours} == (int){theirs}"
    for ours, (theirs, fields) in STRUCTS.items():
        for field, name in fields.items():
            pairs = (f"struct {ours}", field), (f"struct XLA_FFI_{theirs}", name)
            yield " == ".join(f"offsetof({struct}, {member})" for struct, member in pairs)
            yield " == ".join(f"sizeof((({struct} *)0)->{member})" for struct, member in pairs)
        if ours in WHOLE:
            yield f"sizeof(struct {ours}) == sizeof(struct XLA_FFI_{theirs})"
    yield "sizeof(struct XLA_FFI_Rets) == sizeof(struct XLA_FFI_Args)"
    for args, rets in (("size", "size"), ("types", "types"), ("args", "rets")):
        yield f"offsetof(struct XLA_FFI_Args, {args}) == offsetof(struct XLA_FFI_Rets, {rets})"


with tempfile.TemporaryDirectory() as folder:
    source = Path(folder) / "layout.c"
    conditions = list(checks())
    asserts = "\n".join(f'_Static_assert({condition}, "differs");' for condition in conditions)
    source.write_text(f'#include "xla/ffi/api/c_api.h"\n#include "xla.h"\n{asserts}\n')
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    command = [*compiler, "-c", "-o", os.devnull, f"-I{jax.ffi.include_dir()}", f"-I{OURS}", str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
assert done.returncode == 0, done.stderr
print(len(conditions), "checks")
