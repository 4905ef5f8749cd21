"""Stars as the source gives them, and the units that a model learns them in."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from amzrec.arrays import Array, Floats
from amzrec.store.dataset import Scale as Ends


@dataclasses.dataclass(frozen=True)
class Scale:
    """A scale of stars: model units are (stars − mean) / unit, with a unit of a quarter of the scale.

    On a scale of 1 to 5 a unit is one star, so that penalties and learning rates mean the same on every scale.
    """

    mean: float  # stars: of the reviews that a model is fitted on
    low: float  # stars: the lowest of the scale
    high: float  # stars: the highest

    @classmethod
    def of(cls, stars: Array, ends: Ends | None) -> Scale:
        """Build from the stars [n] of the fitted reviews, NaN for none, and the ends of the source's scale."""
        low, high = (ends.min, ends.max) if ends else (1.0, 5.0)
        rated = ~np.isnan(stars)
        mean = float(stars[rated].mean(dtype=np.float64)) if rated.any() else (low + high) / 2
        return cls(mean, low, high)

    @property
    def unit(self) -> float:
        """Stars per model unit."""
        return (self.high - self.low) / 4 or 1.0

    def to_model(self, stars: Array) -> Floats:
        """Turn stars [n] into model units; 0 where there are none (NaN)."""
        return np.where(np.isnan(stars), 0, (stars - self.mean) / self.unit).astype(np.float32)

    def to_stars(self, values: Any) -> Any:
        """Turn model units back into stars: the inverse of `to_model`."""
        return values * self.unit + self.mean

    def to_share(self, values: Any) -> Any:
        """Turn model units into 0 for the lowest stars of the scale and 1 for the highest."""
        return (self.to_stars(values) - self.low) / (self.high - self.low)
