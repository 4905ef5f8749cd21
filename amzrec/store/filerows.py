"""Tables of which single rows are read from their file, and not through a mapping of it.

A page of a mapped file that is touched brings its neighbours with it, which then count as memory of the process: a
thousand customers drawn at random were 220 MB of a table of a million (ext4). Read like this they are none.
"""

from __future__ import annotations

import os
import weakref
from typing import Any

import numpy as np

from amzrec.arrays import Array

FEW = 256  # rows that are read one by one; more come through the mapping


class FileRows:
    """A table [n, d] in a file, which gives what numpy gives for a row, for an array of rows and for all else."""

    def __init__(self, mapped: np.memmap[Any, Any]) -> None:
        """`mapped` is the whole array of a file; raises OSError where that cannot be opened again."""
        self.mapped, self.file, self.begin = np.asarray(mapped), str(mapped.filename), int(mapped.offset)
        self.descriptor = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.descriptor)  # when nobody needs this any more
        self.shape, self.dtype, self.ndim = mapped.shape, mapped.dtype, mapped.ndim
        self.width = mapped.strides[0]

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, key: Any) -> Array:
        if isinstance(key, int | np.integer):
            return np.frombuffer(self.row(int(key)), self.dtype)
        if isinstance(key, np.ndarray) and key.ndim == 1 and key.dtype.kind == "i" and len(key) <= FEW:
            read = b"".join([self.row(row) for row in key.tolist()])
            return np.frombuffer(read, self.dtype).reshape(len(key), *self.shape[1:])
        found: Array = self.mapped[key]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.mapped, dtype) if copy else np.asarray(self.mapped, dtype)

    def row(self, row: int) -> bytes:
        """Read the bytes of a row, which may be counted from the end; IndexError for one that is not there."""
        place = row + len(self) if row < 0 else row
        if not 0 <= place < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        read = os.pread(self.descriptor, self.width, self.begin + place * self.width)
        if len(read) < self.width:
            raise OSError(f"{self.file} ends before row {row}")
        return read
