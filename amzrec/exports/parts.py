"""Strings and arrays as parts of a SavedModel: beside the graph, which is limited to 2 GB."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from amzrec.arrays import Array, Rows
from amzrec.model.keras2 import import_tensorflow
from amzrec.store.strings import Strings

tf: Any = import_tensorflow()

Tensor = Any


class Lines(tf.lookup.TextFileInitializer):  # type: ignore[misc]
    """Fill a table with the number of each line of a file, under a name of our own.

    TensorFlow's name would be the path of the file on this machine. Tables of one name are one table in a process, so
    the name must tell the content.
    """

    def __init__(self, file: Path, name: str) -> None:
        self.shared = name
        whole, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
        super().__init__(str(file), tf.string, whole, tf.int64, number)

    @property
    def _shared_name(self) -> str:
        return self.shared


def escaped(text: bytes) -> bytes:
    """Write a string as a line that TensorFlow reads whole; "" becomes what no other string is written as."""
    return text.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r") or b"\\e"


class RowLookup(tf.Module):  # type: ignore[misc]
    """Find the row of a string, 0 for an unknown one (and for "", which is row 0): StringLookup as an asset.

    The strings go into a file, one a line, since a graph is limited to 2 GB. TensorFlow reads it by lines, drops
    carriage returns and refuses empty lines, so these are escaped there, and in what is looked up.
    """

    def __init__(self, strings: Strings, file: Path) -> None:
        """`file` is written, and must stay until the module is saved."""
        super().__init__()
        size = checksum = 0
        with file.open("wb") as lines:
            # a table may not be empty: without any string there is the line of "", which nothing is looked up as
            for row in range(1, max(2, len(strings))):
                line = escaped(strings.raw(row) if row < len(strings) else b"") + b"\n"
                size, checksum = size + lines.write(line), zlib.crc32(line, checksum)
        self.table = tf.lookup.StaticHashTable(Lines(file, f"{file.stem}-{size}-{checksum}"), -1)

    def lookup(self, strings: Tensor) -> Tensor:
        """Find the rows, int64, in the shape of the strings."""
        for plain, written in ((r"\\", r"\\\\"), ("\n", r"\\n"), ("\r", r"\\r")):  # as `escaped`; \\ is one \ to RE2
            strings = tf.strings.regex_replace(strings, plain, written)
        return self.table.lookup(strings) + 1


def constant(array: Array) -> Tensor:
    """Make a variable that is not trained: it is saved beside the graph, which is limited to 2 GB."""
    return tf.Variable(np.ascontiguousarray(array), trainable=False)


def names(strings: Strings, rows: Rows) -> Tensor:
    """Make a variable of the strings in these rows."""
    return tf.Variable(tf.constant([strings.raw(row) for row in rows], tf.string), trainable=False)
