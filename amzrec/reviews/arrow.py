"""NumPy arrays as Arrow arrays, without pandas: `pa.array` imports it for any array, which takes half a second."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from amzrec.arrays import Array, offsets_of


def array_of(values: Array) -> pa.Array:
    """Return a NumPy array as an Arrow array; booleans are packed to the bits that Arrow has."""
    if values.dtype == bool:
        bits = np.packbits(values, bitorder="little")
        return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(bits)])
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def lists_of(lengths: Array, values: pa.Array) -> pa.ListArray:
    """Part `values` into lists of these lengths [n]."""
    return pa.ListArray.from_arrays(array_of(offsets_of(lengths).astype(np.int32)), values)


def offsets_in(texts: pa.StringArray) -> Array:
    """Return where each text begins in the bytes of the array, and where the last one ends: int32 [n + 1]."""
    return np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
