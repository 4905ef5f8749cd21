"""What makes figures comparable: how reviews were filtered, named and split."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataProtocol:
    """The settings of `prepare` that decide which rows are compared; see PrepareConfig for each of them."""

    product_key: str  # id, title or parent
    min_reviews: int
    min_stars: float
    split: str
    test: float
    valid: float
    seed: int
    catalogue: str

    @property
    def untested(self) -> bool:
        """Whether no review was held out to test on (`--test 0`), so that nothing can be measured."""
        return self.test == 0
