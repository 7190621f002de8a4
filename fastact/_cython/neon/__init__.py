"""Kernels of one SIMD level.  The import fails where the CPU lacks the level, before a module could meet it."""

from fastact._built import refuse_foreign_level

refuse_foreign_level(__name__)
