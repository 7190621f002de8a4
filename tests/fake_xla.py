"""An XLA of any version and with any fault, as far as fastact's handlers see one.

Its structs are written out here, in ctypes, in the order of XLA's fields; tests/scripts/xla_layout.py compares the
handlers' own declarations with jaxlib's header.
"""

import ctypes
import functools
import threading

import numpy as np

POINTER, SIZE, INT, INT64 = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int64
FUNCTION = ctypes.CFUNCTYPE(POINTER, POINTER)
TASK = ctypes.CFUNCTYPE(None, POINTER)
TYPES = {"float16": 10, "bfloat16": 16, "float32": 11, "float64": 12, "int32": 4}
HEAD = [("size", SIZE), ("extensions", POINTER)]


class Version(ctypes.Structure):
    _fields_ = [*HEAD, ("major", INT), ("minor", INT)]


class Api(ctypes.Structure):
    _fields_ = [
        *HEAD,
        ("version", Version),
        ("internal", POINTER),
        ("create_error", FUNCTION),
        ("get_message", POINTER),
        ("destroy_error", FUNCTION),
        ("unused", POINTER * 8),
        ("schedule", FUNCTION),
        ("count_threads", FUNCTION),
    ]


class Error(ctypes.Structure):
    _fields_ = [*HEAD, ("message", ctypes.c_char_p), ("code", INT)]


class Three(ctypes.Structure):
    """The arguments of the other functions: a context and two pointers, or less."""

    _fields_ = [*HEAD, ("first", POINTER), ("second", POINTER), ("third", POINTER)]


class Buffer(ctypes.Structure):
    _fields_ = [*HEAD, ("type", INT), ("data", POINTER), ("axes", INT64), ("shape", POINTER)]


class Buffers(ctypes.Structure):
    _fields_ = [*HEAD, ("number", INT64), ("kinds", POINTER), ("buffers", POINTER)]


class Call(ctypes.Structure):
    _fields_ = [
        *HEAD,
        ("api", ctypes.POINTER(Api)),
        ("context", POINTER),
        ("stage", INT),
        ("arguments", Buffers),
        ("results", Buffers),
    ]


class Metadata(ctypes.Structure):
    _fields_ = [("size", SIZE), ("version", Version), ("traits", ctypes.c_uint32)]


class Query(ctypes.Structure):
    _fields_ = [("size", SIZE), ("type", INT), ("next", POINTER), ("metadata", ctypes.POINTER(Metadata))]


class Failed(Exception):
    """An error: its code and message."""


class FakeXLA:
    """`call` runs a handler on arrays; `tasks` counts what its pool was given.

    `threads` None: it has no pool.  `when` "now" runs a task where it is scheduled, "beside" on a thread, "late" when
    `run_late` is called, "never" refuses it.  `fields` are put into each buffer, whatever they should be.
    """

    def __init__(self, capsules, version=(0, 3), threads=3, when="beside", api_size=None, fields=()):
        self.capsules, self.threads, self.when, self.fields = capsules, threads, when, dict(fields)
        self.tasks, self.alive, self.errors, self.late, self.helpers = 0, 0, {}, [], []
        functions = (self.create_error, self.destroy_error, self.schedule, self.count_threads)
        create, destroy, schedule, count = self.kept = [FUNCTION(function) for function in functions]
        self.api = Api(
            size=ctypes.sizeof(Api) if api_size is None else api_size,
            version=Version(ctypes.sizeof(Version), None, *version),
            create_error=create,
            destroy_error=destroy,
            schedule=schedule,
            count_threads=count,
        )

    def create_error(self, arguments):
        error = Error.from_address(arguments)
        self.alive += 1
        self.errors[number := 1000 + len(self.errors)] = (error.code, error.message.decode())
        return number

    def destroy_error(self, arguments):
        assert Three.from_address(arguments).first in self.errors
        self.alive -= 1

    def new_error(self):
        return self.create_error(ctypes.addressof(Error(ctypes.sizeof(Error), None, b"no", 13)))

    def schedule(self, arguments):
        given = Three.from_address(arguments)
        assert given.first == 77, "the context"
        if self.when == "never":
            return self.new_error()
        self.tasks += 1
        task = functools.partial(TASK(given.second), given.third)
        if self.when == "now":
            task()
        elif self.when == "late":
            self.late.append(task)
        else:
            self.helpers.append(threading.Thread(target=task))
            self.helpers[-1].start()

    def run_late(self):
        for task in self.late:
            task()

    def count_threads(self, arguments):
        if self.threads is None:
            return self.new_error()
        INT64.from_address(Three.from_address(arguments).second).value = self.threads

    def handler(self, name):
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = POINTER, (ctypes.py_object, ctypes.c_char_p)
        return FUNCTION(pointer(self.capsules[name], None))

    def buffers(self, arrays, keep):
        made = []
        for array in arrays:
            shape = (INT64 * array.ndim)(*array.shape)
            keep.append(shape)
            made.append(
                Buffer(
                    ctypes.sizeof(Buffer),
                    None,
                    TYPES[array.dtype.name],
                    array.ctypes.data,
                    array.ndim,
                    ctypes.addressof(shape),
                )
            )
            for name, value in self.fields.items():
                setattr(made[-1], name, value)
        pointers = (ctypes.POINTER(Buffer) * len(made))(*map(ctypes.pointer, made))
        kinds = (INT * len(made))(*[1] * len(made))
        keep += [pointers, kinds, made]
        return Buffers(ctypes.sizeof(Buffers), None, len(made), ctypes.addressof(kinds), ctypes.addressof(pointers))

    def call(self, name, results, arguments, stage=3):
        """Run a handler; `Failed` if it returns an error."""
        keep = []
        call = Call(
            ctypes.sizeof(Call), None, ctypes.pointer(self.api), 77, stage, self.buffers(arguments, keep),
            self.buffers(results, keep),
        )  # fmt: skip
        error = self.handler(name)(ctypes.addressof(call))
        for helper in self.helpers:
            helper.join()
        if error:
            self.alive -= 1
            raise Failed(*self.errors[error])

    def ask(self, name, with_api=True):
        """The version that a handler says it is of."""
        metadata = Metadata(ctypes.sizeof(Metadata), Version(ctypes.sizeof(Version), None, 99, 99), 99)
        query = Query(24, 1, None, ctypes.pointer(metadata))
        first = Query(24, 7, ctypes.addressof(query))  # an extension that nobody knows
        call = Call(ctypes.sizeof(Call), ctypes.addressof(first))
        if with_api:
            call.api = ctypes.pointer(self.api)
        assert not self.handler(name)(ctypes.addressof(call))
        assert metadata.traits == 0
        return metadata.version.major, metadata.version.minor


def new(*shape, dtype=np.float32):
    """A result that shows what was written."""
    return np.full(shape, 99, dtype)
