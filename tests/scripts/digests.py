"""Digests of many results as JSON, for machines that are to agree: the variants of this one have to agree already.

Usage: python digests.py cython,numba float32,float64 ...

Operands are made of integers by exact operations only, because functions of the C library (and so NumPy's normal
numbers) may differ in a last bit between machines.  NaNs count as one NaN: which one an operation makes is the
processor's choice.
"""

import hashlib
import json
import sys

import numpy as np
from cases import Case, per_channel
from helpers import COMPILED, FLOATS, OPERATIONS, assert_right, bits, call, finfo, tables, thresholds, using

import fastact

CASES = [
    Case((20_001,), ()),
    per_channel((3, 17, 5)),
    per_channel((2, 5, 49)),
    per_channel((2, 3, 1025)),
    per_channel((1, 2, 17_000)),
    per_channel((33, 3), -1),
    per_channel((70, 33), -1),
    per_channel((70, 64), -1),
    per_channel((5, 1040), -1),
    Case((9, 113), (9, 113)),
]
STREAMED = {
    "stream_bytes": 0, "stream_bytes_per_thread": 0, "bytes_per_thread": 1, "bytes_per_summing_thread": 1,
    "bytes_to_wake": 0,
}  # fmt: skip


def numbers(shape, dtype, seed):
    """Floats of both signs and of many sizes, with zeros, infinities, NaN and subnormals among them.

    They have all digits of the dtype, and sizes so far apart that each sum of products in float64 rounds.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    digits = finfo(dtype).nmant + 1
    spread = 12 if dtype == np.float16 else 40
    whole = rng.integers(1 - 2**digits, 2**digits, shape).astype(np.float64)
    a = np.ldexp(whole, rng.integers(-spread, spread, shape) - digits).astype(dtype)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, *(np.ldexp([3.0, -5.0], {2: -24}.get(a.itemsize, -140)))])
    pick = rng.integers(0, 40 * len(special), shape)
    with np.errstate(all="ignore"):
        return np.where(pick < len(special), special[pick % len(special)], a.astype(np.float64)).astype(dtype)


def digest(a):
    return hashlib.sha256(bits(a).tobytes()).hexdigest()[:32]


backends, kinds = (argument.split(",") for argument in sys.argv[1:3])
variants = [variant for variant in COMPILED if variant.backend in backends]
assert {variant.backend for variant in variants} == set(backends), variants
found = {}
for dtype, case in ((dtype, case) for dtype in FLOATS if np.dtype(dtype).name in kinds for case in CASES):
    pairs = {"any": (numbers(case.shape, dtype, 1), numbers(case.shape, dtype, 2))}
    pairs["finite"] = tuple(np.where(np.isfinite(a.astype(np.float64)), a, np.ones_like(a)) for a in pairs["any"])
    alpha = np.ldexp(np.arange(np.prod(case.alpha, dtype=int)) % 37 - 9.0, -5).reshape(case.alpha)
    for values, (x, dy) in pairs.items():
        # Finite terms have slopes in float64, and so a dalpha: a rounded one would hide in which order it was added.
        slopes = alpha.astype(np.float64 if values == "finite" else dtype)
        for op in OPERATIONS.values():
            ops = {"x": x, "dy": dy, "alpha": 0.296875 if op.alpha == "number" else slopes}
            ops = {name: ops[name] for name in (*op.reads, *(["alpha"] if op.alpha else []))}
            options = {"channel_axis": case.channel_axis} if op.alpha == "array" else {}
            for variant in variants:
                for streamed, n_threads in ((False, 1), (True, 2)):
                    with thresholds(**STREAMED) if streamed else thresholds():
                        got = call(op.name, ops, variant, n_threads=n_threads, **options)
                    where = f"{op.name} {np.dtype(dtype).name} {case} {values}"
                    if variant is variants[0] and not streamed:
                        assert_right(op.name, ops, got, case.channel_axis, where)
                    for name, result in got.items():
                        # A dalpha of finite terms is written out, so that a difference can be looked at.
                        text = digest(result) if result.size > 16 else bits(result).tobytes().hex()
                        assert found.setdefault(f"{where} {name}", text) == text, (where, variant, streamed)
            if op.backward or not op.masked:
                continue
            slope = {"alpha": 0.296875} if op.alpha else {}
            for variant in variants:
                with using(variant), np.errstate(all="ignore"):
                    y, mask = getattr(fastact, op.name)(x, **slope, return_mask=True)
                    dx = getattr(fastact, f"{op.name}_backward")(dy, mask=mask, **slope)
                for name, result in (("y", y), ("mask", mask), ("dx", dx)):
                    where = f"{op.name} {np.dtype(dtype).name} {case} {values} with a mask {name}"
                    assert found.setdefault(where, digest(result)) == digest(result), (where, variant)
for name in tables.INTEGERS if "integers" in kinds else ():
    x = np.random.Generator(np.random.PCG64(3)).integers(0, 256, 40_000, np.uint8)
    x = x > 99 if name == "bool" else x.view(name)
    for variant in variants:
        for streamed in (False, True):
            with thresholds(**STREAMED) if streamed else thresholds():
                text = digest(call("relu", {"x": x}, variant)["y"])
            assert found.setdefault(f"relu {name}", text) == text, (name, variant, streamed)
json.dump({"variants": [str(variant) for variant in variants], "digests": found}, sys.stdout, indent=1)
