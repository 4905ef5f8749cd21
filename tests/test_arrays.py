"""What the arrays of all rooms have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from amzrec.arrays import FEW_PAIRS, among


@pytest.mark.parametrize(("values", "wanted"), [(0, 0), (0, 3), (5, 0), (5, 3), (70, 70), (FEW_PAIRS, 2)])
@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.int64])
def test_values_that_are_wanted_are_found_among_few_and_among_many(values: int, wanted: int, kind: type) -> None:
    rng = np.random.default_rng(values + wanted)
    some: Any = rng.integers(0, 100, values).astype(kind)
    others = rng.integers(0, 100, wanted)
    found = among(some, others)
    assert found.dtype == np.bool_
    assert found.tolist() == [value in set(others.tolist()) for value in some.tolist()]
