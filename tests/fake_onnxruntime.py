"""The part of ONNX Runtime that the library of custom operators sees, as any version and with any fault.

It fills the numbered slots that fastact/onnx/onnxruntime.h declares (the numbers are read from there), registers the
library, and calls its operators.  A value is an index into a dict of arrays.  Every object that is created is counted.
"""

import ctypes
import re
from pathlib import Path

import numpy as np

HEADER = (Path(__file__).parents[1] / "fastact" / "onnx" / "onnxruntime.h").read_text()
POINTER, SIZE, INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
OUT, SIZES, SHAPE = ctypes.POINTER(POINTER), ctypes.POINTER(SIZE), ctypes.POINTER(ctypes.c_int64)
STEP = ctypes.CFUNCTYPE(None, POINTER, SIZE)
SLOTS = {name: int(number) for name, number in re.findall(r"^    ORT_(\w+) = (\d+)", HEADER, re.MULTILINE)}
CALLBACKS = re.findall(r"\bORT_OP_(\w+)(?: = (\d+))?,", HEADER)
TYPES = {np.dtype(np.float32): 1, np.dtype(np.float64): 11}  # as ONNX numbers them


KEPT = []


class Failed(Exception):
    """A status: its code and message."""


class FakeRuntime:
    """Create it, `register`, then `run` arrays; `faults` are names of slots that fail, and after how many calls."""

    def __init__(self, version, **faults):
        self.version, self.faults = version, faults
        self.steps = 0  # that threads of this runtime were given
        self.alive, self.statuses, self.values, self.operators = 0, {}, {}, {}
        self.table = (POINTER * 500)()
        self._kept = [self]  # never freed, as the library remembers the first runtime by its address
        KEPT.append(self._kept)
        for name, (result, *arguments) in {
            "CREATE_STATUS": (POINTER, INT, ctypes.c_char_p),
            "CREATE_DOMAIN": (POINTER, ctypes.c_char_p, OUT),
            "ADD_OPERATOR": (POINTER, POINTER, POINTER),
            "ADD_DOMAIN": (POINTER, POINTER, POINTER),
            "GET_DATA": (POINTER, POINTER, OUT),
            "GET_AXES": (POINTER, POINTER, SIZES),
            "GET_SHAPE": (POINTER, POINTER, SHAPE, SIZE),
            "GET_INFO": (POINTER, POINTER, OUT),
            "GET_INTEGER_ATTRIBUTE": (POINTER, POINTER, ctypes.c_char_p, SHAPE),
            "GET_INPUT": (POINTER, POINTER, SIZE, OUT),
            "GET_OUTPUT": (POINTER, POINTER, SIZE, SHAPE, SIZE, OUT),
            "RELEASE_STATUS": (None, POINTER),
            "RELEASE_INFO": (None, POINTER),
            "RELEASE_DOMAIN": (None, POINTER),
            "GET_NODE_NAME": (POINTER, POINTER, POINTER, SIZES),
            "PARALLEL_FOR": (POINTER, POINTER, STEP, SIZE, SIZE, POINTER),
            "GET_SHAPE_REFERENCE": (POINTER, POINTER, ctypes.POINTER(INT), OUT, SIZES),
        }.items():
            function = ctypes.CFUNCTYPE(result, *arguments)(self._wrapped(name, getattr(self, name.lower())))
            self._kept.append(function)
            self.table[SLOTS[name]] = ctypes.cast(function, POINTER)
        table_of = ctypes.CFUNCTYPE(POINTER, ctypes.c_uint32)(self._table_of)
        text = ctypes.create_string_buffer(f"1.{version}.0".encode())
        version_of = ctypes.CFUNCTYPE(POINTER)(lambda: ctypes.addressof(text))
        self.base = (POINTER * 2)(ctypes.cast(table_of, POINTER), ctypes.cast(version_of, POINTER))
        self._kept += [table_of, text, version_of]

    def _table_of(self, version):
        assert version == 1 or version <= self.version, "a real one would complain on the standard error stream"
        return ctypes.addressof(self.table)

    def _wrapped(self, name, function):
        def called(*arguments):
            left = self.faults.get(name)
            if left is not None:
                if left == 0:
                    return self.create_status(1, f"{name} fails".encode())
                self.faults[name] = left - 1
            return function(*arguments)

        return called

    # ---- the table ----

    def create_status(self, code, message):
        self.alive += 1
        self.statuses[number := 1000 + len(self.statuses)] = (code, message.decode())
        return number

    def release_status(self, status):
        assert status in self.statuses
        self.alive -= 1

    def create_domain(self, name, out):
        self.alive += 1
        out[0] = 1 + len(name)
        self.operators[1 + len(name)] = []

    def release_domain(self, domain):
        self.alive -= 1

    def add_operator(self, domain, operator):
        self.operators[domain].append(operator)

    def add_domain(self, options, domain):
        assert options == 77

    def get_node_name(self, info, name, size):
        if name:
            ctypes.memmove(name, b"the node\0", 9)
        size[0] = 9

    def get_integer_attribute(self, info, name, value):
        return self.create_status(1, b"no attribute")

    def get_input(self, context, index, out):
        out[0] = 1 + index

    def get_output(self, context, index, shape, axes, out):
        self.values[3] = np.full(shape[:axes], 99, self.values[1].dtype)
        out[0] = 3

    def get_data(self, value, out):
        out[0] = self.values[value].ctypes.data

    def get_info(self, value, out):
        self.alive += 1
        out[0] = value

    def release_info(self, info):
        self.alive -= 1

    def get_axes(self, info, size):
        size[0] = self.values[info].ndim

    def get_shape(self, info, shape, axes):
        for k in range(axes):
            shape[k] = self.values[info].shape[k]

    def get_shape_reference(self, value, kind, shape, size):
        lengths = (ctypes.c_int64 * 64)(*self.values[value].shape)
        self._kept.append(lengths)
        shape[0], size[0] = ctypes.addressof(lengths), self.values[value].ndim

    def parallel_for(self, context, step, n, batches, work):
        """Backwards; "STEPS" of `faults` is how many indices run before it fails."""
        for i in reversed(range(n)):
            if self.faults.get("STEPS") == n - 1 - i:
                return self.create_status(1, b"no thread")
            self.steps += 1
            step(work, i)

    # ---- what a test does ----

    def checked(self, status):
        if status:
            self.alive -= 1
            raise Failed(*self.statuses[status])

    def register(self, path):
        library = ctypes.CDLL(path)
        library.RegisterCustomOps.restype = POINTER
        self.checked(library.RegisterCustomOps(POINTER(77), self.base))

    def callback(self, operator, name, result, *arguments):
        number = 0
        for known, given in CALLBACKS:
            number = int(given or number)
            if known == name:
                break
            number += 1
        address = ctypes.cast(operator, ctypes.POINTER(POINTER))[1 + number]
        return ctypes.CFUNCTYPE(result, *arguments)(address)

    def in_place(self):
        """Which inputs may have the memory of which outputs."""
        pairs = [ctypes.POINTER(INT)() for _ in range(2)]
        addresses = [ctypes.cast(ctypes.pointer(pair), POINTER) for pair in pairs]
        number = self.callback(self.operators[1][0], "IN_PLACE", SIZE, POINTER, POINTER)(*addresses)
        return [(pairs[0][k], pairs[1][k]) for k in range(number)]

    def run(self, x, slope):
        """PRelu of domain "", for x's type."""
        self.values.update({1: x, 2: slope})
        (operator,) = [
            op
            for op in self.operators[1]
            if self.callback(op, "INPUT_TYPE", INT, POINTER, SIZE)(op, 0) == TYPES[x.dtype]
        ]
        kernel = POINTER()
        create = self.callback(operator, "CREATE", POINTER, POINTER, POINTER, POINTER, OUT)
        self.checked(create(operator, ctypes.addressof(self.table), POINTER(88), ctypes.byref(kernel)))
        try:
            self.checked(self.callback(operator, "COMPUTE", POINTER, POINTER, POINTER)(kernel, POINTER(99)))
        finally:
            self.callback(operator, "DESTROY", None, POINTER)(kernel)
        return self.values[3]
