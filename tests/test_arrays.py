"""What the arrays of all rooms have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from amzrec.arrays import FEW_PAIRS, among, compact, positions


@pytest.mark.parametrize(("values", "wanted"), [(0, 0), (0, 3), (5, 0), (5, 3), (70, 70), (FEW_PAIRS, 2)])
@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.int64])
def test_values_that_are_wanted_are_found_among_few_and_among_many(values: int, wanted: int, kind: type) -> None:
    rng = np.random.default_rng(values + wanted)
    some: Any = rng.integers(0, 100, values).astype(kind)
    others = rng.integers(0, 100, wanted)
    found = among(some, others)
    assert found.dtype == np.bool_
    assert found.tolist() == [value in set(others.tolist()) for value in some.tolist()]


def test_equal_values_are_kept_once_and_read_as_many() -> None:
    ones = compact(np.ones(1000, np.float32))
    assert (ones.shape, ones.strides, str(ones.dtype)) == ((1000,), (0,), "float32")
    np.testing.assert_array_equal(ones[np.array([0, 999])], [1, 1])
    for values in (np.array([1.0, 2.0]), np.array([1.0, np.nan]), np.zeros(0)):
        assert compact(values) is values


@pytest.mark.parametrize(("number", "kind"), [(0, np.int32), (2**31 - 1, np.int32), (2**31, np.int64)])
def test_places_are_as_narrow_as_their_number_allows(number: int, kind: type) -> None:
    assert positions(number) is kind
