"""Stars and model units: worked by hand, and there and back again."""

from __future__ import annotations

import numpy as np
import pytest

from amzrec.features.scale import Scale
from amzrec.store.dataset import Scale as Ends


def test_a_unit_is_a_quarter_of_the_scale_and_the_mean_is_zero() -> None:
    scale = Scale.of(np.array([5, 2, 4, np.nan, 1], np.float32), Ends(1.0, 5.0))
    assert (scale.mean, scale.unit) == (3.0, 1.0)
    assert scale.to_model(np.array([5, 1, np.nan], np.float32)).tolist() == [2.0, -2.0, 0.0]
    assert Scale(5.0, 0.0, 10.0).to_model(np.array([10, 0], np.float32)).tolist() == [2.0, -2.0]


@pytest.mark.parametrize("scale", [Scale(3.2, 1.0, 5.0), Scale(61.0, 0.0, 100.0), Scale(-1.5, -10.0, 10.0)])
def test_model_units_turn_back_into_the_stars_they_came_from(scale: Scale) -> None:
    stars = np.linspace(scale.low, scale.high, 9).astype(np.float32)
    np.testing.assert_allclose(scale.to_stars(scale.to_model(stars)), stars, rtol=1e-6, atol=1e-5)


def test_the_lowest_stars_are_0_and_the_highest_1_of_a_share() -> None:
    scale = Scale(3.0, 1.0, 5.0)
    np.testing.assert_allclose(scale.to_share(scale.to_model(np.array([1, 3, 5], np.float32))), [0, 0.5, 1])


def test_where_all_stars_are_equal_or_missing_there_is_a_scale_all_the_same() -> None:
    assert Scale.of(np.array([4, 4], np.float32), Ends(4.0, 4.0)).unit == 1.0
    assert Scale.of(np.array([np.nan], np.float32), None).mean == 3.0
