"""Rows that are read from a file are those of the array, and what cannot be read is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amzrec.store.filerows import FEW, FileRows

TABLE = np.random.default_rng(1).normal(size=(700, 5)).astype(np.float32)


@pytest.fixture
def rows(tmp_path: Path) -> FileRows:
    np.save(tmp_path / "table.npy", TABLE)
    return FileRows(np.load(tmp_path / "table.npy", mmap_mode="r"))


@pytest.mark.parametrize(
    "key",
    [
        0,
        -1,
        np.int32(699),
        np.array([3, 3, 0], np.int32),
        np.array([-700, -1]),
        np.zeros(0, np.int64),
        np.arange(FEW + 1),
        np.arange(700) % 2 > 0,
        slice(2, 5),
        (slice(None), 1),
        [1, 2],
    ],
    ids=str,
)
def test_they_are_what_numpy_gives(rows: FileRows, key: Any) -> None:
    np.testing.assert_array_equal(rows[key], TABLE[key])
    assert rows[key].dtype == TABLE.dtype


def test_the_whole_is_an_array(rows: FileRows) -> None:
    assert (len(rows), rows.shape, rows.ndim, rows.dtype) == (700, (700, 5), 2, np.float32)
    np.testing.assert_array_equal(np.asarray(rows), TABLE)


@pytest.mark.parametrize("row", [700, -701])
def test_a_row_that_is_not_there_is_an_error_and_not_what_lies_there(rows: FileRows, row: int) -> None:
    with pytest.raises(IndexError):
        rows[row]
    with pytest.raises(IndexError):
        rows[np.array([0, row])]


def test_a_file_that_was_cut_is_an_error(rows: FileRows) -> None:
    with open(rows.file, "r+b") as file:
        file.truncate(rows.begin + 3)
    with pytest.raises(OSError, match="ends before row 0"):
        rows[0]
