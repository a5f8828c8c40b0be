"""Arrays of float32 for programs with numpy and without."""

from __future__ import annotations

from typing import Any


def float_array(memory: Any, shape: tuple[int, ...]) -> Any:
    """A ctypes array as a numpy array, or where there is no numpy as a memoryview. Neither copies it; both keep it."""
    try:
        import numpy
    except ImportError:
        if 0 in shape:
            return memoryview(b"").cast("f")  # a memoryview has no dimension of 0
        return memoryview(memory).cast("B").cast("f", shape)
    return numpy.frombuffer(memory, numpy.float32).reshape(shape)
