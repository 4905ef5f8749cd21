"""Stars and model units: worked by hand, and there and back again."""

from __future__ import annotations

import numpy as np
import pytest

from amzrec.features.scale import ModelScale
from amzrec.store.dataset import Scale


def test_a_unit_is_a_quarter_of_the_scale_and_the_mean_is_zero() -> None:
    scale = ModelScale.of(np.array([5, 2, 4, np.nan, 1], np.float32), Scale(1.0, 5.0))
    assert (scale.mean, scale.unit) == (3.0, 1.0)
    assert scale.to_model(np.array([5, 1, np.nan], np.float32)).tolist() == [2.0, -2.0, 0.0]
    assert ModelScale(5.0, 0.0, 10.0).to_model(np.array([10, 0], np.float32)).tolist() == [2.0, -2.0]


@pytest.mark.parametrize(
    "scale", [ModelScale(3.2, 1.0, 5.0), ModelScale(61.0, 0.0, 100.0), ModelScale(-1.5, -10.0, 10.0)]
)
def test_model_units_turn_back_into_the_stars_they_came_from(scale: ModelScale) -> None:
    stars = np.linspace(scale.low, scale.high, 9).astype(np.float32)
    np.testing.assert_allclose(scale.to_stars(scale.to_model(stars)), stars, rtol=1e-6, atol=1e-5)


def test_the_lowest_stars_are_0_and_the_highest_1_of_a_share() -> None:
    scale = ModelScale(3.0, 1.0, 5.0)
    np.testing.assert_allclose(scale.to_share(scale.to_model(np.array([1, 3, 5], np.float32))), [0, 0.5, 1])


def test_where_all_stars_are_equal_or_missing_there_is_a_scale_all_the_same() -> None:
    assert ModelScale.of(np.array([4, 4], np.float32), Scale(4.0, 4.0)).unit == 1.0
    assert ModelScale.of(np.array([np.nan], np.float32), None).mean == 3.0
