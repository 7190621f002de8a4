"""The version, in one place: the build reads it from here, and an import looks for no installed metadata (20 ms)."""

__version__ = "0.1.0"
