"""Stars as the source gives them, and the units in which a model learns them."""

from __future__ import annotations

import dataclasses

import numpy as np

from amzrec.arrays import Array, Floats
from amzrec.store.dataset import Scale


@dataclasses.dataclass(frozen=True)
class ModelScale:
    """The scale of the stars and the units of a model: (stars − mean) / unit, where a unit is a quarter of the scale.

    On a scale of 1 to 5 a unit is one star, so that penalties and learning rates mean the same on every scale.
    """

    mean: float  # in stars: the mean of the reviews that a model is fitted on
    low: float  # in stars: the low end of the scale
    high: float  # in stars: the high end of the scale

    @classmethod
    def of(cls, stars: Array, scale: Scale | None) -> ModelScale:
        """Build from the stars [n] of the fitted reviews, NaN where there are none, and the scale of the source."""
        low, high = (scale.min, scale.max) if scale else (1.0, 5.0)
        rated = ~np.isnan(stars)
        mean = float(stars[rated].mean(dtype=np.float64)) if rated.any() else (low + high) / 2
        return cls(mean, low, high)

    @property
    def unit(self) -> float:
        """Return the stars of one model unit."""
        return (self.high - self.low) / 4 or 1.0

    def to_model(self, stars: Array) -> Floats:
        """Turn stars [n] into model units; 0 where there are none (NaN)."""
        return np.where(np.isnan(stars), 0, (stars - self.mean) / self.unit).astype(np.float32)

    def to_stars(self, values: Array) -> Array:
        """Turn model units, an array or a tensor, back into stars: the inverse of `to_model`."""
        stars: Array = values * self.unit + self.mean
        return stars

    def to_share(self, values: Array) -> Array:
        """Turn model units, an array or a tensor, into 0 for the low end of the scale and 1 for the high end."""
        share: Array = (self.to_stars(values) - self.low) / (self.high - self.low or 1.0)
        return share
