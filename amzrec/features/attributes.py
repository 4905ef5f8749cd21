"""Features and title words of customers and products, as lists of small integers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa

from amzrec.arrays import Ints, Lists, offsets_of

LEAST_ROWS = 2  # rows that must share an attribute: what only one row has is no better than an id


@dataclasses.dataclass(frozen=True)
class Attributes:
    """The attributes of each customer, or of each product: its features and the words of its title."""

    lists: Lists  # [R + 1] lists, one per row, of attribute numbers from 0 to before `number`
    number: int  # how many attributes there are

    @classmethod
    def of(cls, table: pa.Table) -> Attributes:
        """Read the columns `features` ("name=value") and `tokens` (hashed title words) of customers or products.

        An attribute that fewer than LEAST_ROWS rows have is left out.
        """
        row, code, keys = _coded(table)
        offsets = offsets_of(np.bincount(row, minlength=table.num_rows))
        return cls(Lists(offsets, code.astype(np.int32)), len(keys))


def attribute_names(table: pa.Table) -> list[str]:
    """Return what the attributes of `Attributes.of` are, by number: a feature ("name=value"), or a hashed word ("#7").

    A name stands for the same attribute in every table, its number does not.
    """
    keys = _coded(table)[2].tolist()
    features = _values(table["features"]).dictionary_encode().dictionary if "features" in table.column_names else []
    return [f"#{key // 2}" if key % 2 else str(features[key // 2]) for key in keys]


def _coded(table: pa.Table) -> tuple[Ints, Ints, Ints]:
    """Return pairs of a row [S] and the number of its attribute [S], by row, and the keys [A] of the attributes."""
    columns = [name for name in ("features", "tokens") if name in table.column_names]
    entries = [_entries(table[name], number) for number, name in enumerate(columns)]
    if not sum(len(row) for row, _ in entries):
        return (np.zeros(0, np.int64),) * 3
    row, key = (np.concatenate(part) for part in zip(*entries, strict=True))
    row, key = np.unique(np.stack([row, key]), axis=1)
    keys, code, count = np.unique(key, return_inverse=True, return_counts=True)
    shared = count >= LEAST_ROWS
    is_shared = shared[code]
    return row[is_shared], (np.cumsum(shared) - 1)[code[is_shared]], keys[shared]


def _values(column: pa.ChunkedArray) -> pa.Array:
    """Return the entries of all lists of a column, one after the other."""
    return _whole(column).flatten()


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece."""
    array = column.combine_chunks()
    return array.chunk(0) if isinstance(array, pa.ChunkedArray) else array


def _entries(column: pa.ChunkedArray, number: int) -> tuple[Ints, Ints]:
    """Return every entry of a column of lists as a pair (row [S], key [S]).

    `number` is 0 for the first column and 1 for the second: a key of one is never a key of the other.
    """
    array, values = _whole(column), _values(column)
    codes = values.dictionary_encode().indices.to_numpy() if pa.types.is_string(values.type) else values.to_numpy()
    return np.repeat(np.arange(len(array)), np.diff(array.offsets.to_numpy())), codes.astype(np.int64) * 2 + number
