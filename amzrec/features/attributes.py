"""Features and title words of customers and products, as lists of small integers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa

from amzrec.arrays import Lists, offsets_of

LEAST = 2  # rows that must share an attribute: what only one row has is no better than an id


@dataclasses.dataclass(frozen=True)
class Attributes:
    """Which attributes each row has."""

    lists: Lists  # [R + 1] lists of attribute numbers
    number: int  # how many attributes there are

    @classmethod
    def of(cls, table: pa.Table) -> Attributes:
        """Read the columns `features` ("name=value") and `tokens` (hashed title words) of customers or products."""
        columns = [name for name in ("features", "tokens") if name in table.column_names]
        pairs = [_listed(table[name], number) for number, name in enumerate(columns)]
        if not sum(len(row) for row, _ in pairs):
            return cls(Lists.empty(table.num_rows), 0)
        row, key = (np.concatenate(part) for part in zip(*pairs, strict=True))
        row, key = np.unique(np.stack([row, key]), axis=1)
        _, code, count = np.unique(key, return_inverse=True, return_counts=True)
        shared = count >= LEAST
        renumbered, kept = np.cumsum(shared) - 1, shared[code]
        offsets = offsets_of(np.bincount(row[kept], minlength=table.num_rows))
        return cls(Lists(offsets, renumbered[code[kept]].astype(np.int32)), int(shared.sum()))


def _listed(column: pa.ChunkedArray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """(row, key) of every entry of a column of lists; keys of the columns 0 and 1 never meet."""
    array = column.combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    values = array.flatten()
    codes = values.dictionary_encode().indices.to_numpy() if pa.types.is_string(values.type) else values.to_numpy()
    return np.repeat(np.arange(len(array)), np.diff(array.offsets.to_numpy())), codes.astype(np.int64) * 2 + number
