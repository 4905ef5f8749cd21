"""The settings of each stage: frozen dataclasses, checked at construction, dumped as JSON beside what they made."""

from __future__ import annotations

import dataclasses
import difflib
import json
from typing import Any, Self

from amzrec.errors import AmzrecError

SPLITS = ("random", "per-customer", "temporal", "leave-last-out", "given")
PRODUCT_KEYS = ("auto", "id", "title", "parent")
CATALOGUES = ("train", "all")
ENGINES = ("duckdb", "spark")
FEATURES = ("full", "ids")
RATING_LOSSES = ("squared",)
OPTIMIZERS = ("adagrad", "adam")


def flag(name: str) -> str:
    """The command-line spelling of a field: `rating_weight` → `--rating-weight`."""
    return "--" + name.replace("_", "-")


def require(ok: bool, name: str, found: object, allowed: str) -> None:
    """Raise the one error of a bad setting: which flag, what was found, what is allowed."""
    if not ok:
        raise AmzrecError(f"{flag(name)} is {found!r}; allowed: {allowed}")


@dataclasses.dataclass(frozen=True)
class Config:
    """JSON in and out for the frozen dataclasses below; an unknown key is an error."""

    def to_json(self) -> dict[str, Any]:
        """A plain dict of JSON values, in field order."""
        return dict(json.loads(json.dumps(dataclasses.asdict(self))))

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Build from keywords or a JSON dict; lists become tuples; an unknown key raises AmzrecError."""
        names = [f.name for f in dataclasses.fields(cls)]
        for key in values:
            if key not in names:
                near = difflib.get_close_matches(key, names, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise AmzrecError(f"unknown setting {key!r}{hint} (allowed: {', '.join(names)})")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})

    def replace(self, **values: Any) -> Self:
        """The same settings with some changed."""
        return type(self).of(**{**dataclasses.asdict(self), **values})


@dataclasses.dataclass(frozen=True)
class PrepareConfig(Config):
    """How a source becomes a dataset folder (the protocol of every figure that follows)."""

    format: str | None = None  # name of a source format; None: detected from the content
    columns: str | None = None  # "customer=UserId,product=ItemId,stars=rating,timestamp=time,title=name"
    titles: str | None = None  # path of a metadata file that gives titles and features by product id
    product_key: str = "auto"  # what names a product: id | title | parent; auto: parent where there is one, else id
    min_reviews: int = 0  # k of the k-core: reviews that every customer and product must keep; 0: off
    min_stars: float = 0.0  # stars from which a review counts as relevant in ranking metrics; 0: all
    split: str = "random"  # who is tested on what, see SPLITS
    test: float = 0.2  # share of the reviews held out as test
    valid: float = 0.1  # share of the remaining train reviews held out as valid
    seed: int = 42  # of the split's hash
    test_source: str | None = None  # file of the test reviews of --split given
    catalogue: str = "train"  # candidates: the products reviewed in train, or all that the source lists
    engine: str = "duckdb"  # what runs the Ibis expressions, see ENGINES
    max_rejects: float = 0.05  # share of rejected rows above which prepare stops

    def __post_init__(self) -> None:
        require(self.product_key in PRODUCT_KEYS, "product_key", self.product_key, " | ".join(PRODUCT_KEYS))
        require(self.split in SPLITS, "split", self.split, " | ".join(SPLITS))
        require(self.catalogue in CATALOGUES, "catalogue", self.catalogue, " | ".join(CATALOGUES))
        require(self.engine in ENGINES, "engine", self.engine, " | ".join(ENGINES))
        require(self.min_reviews >= 0, "min_reviews", self.min_reviews, "0 (off) or a positive whole number")
        require(0 < self.test < 1, "test", self.test, "a share between 0 and 1, such as 0.2")
        require(0 <= self.valid < 1, "valid", self.valid, "a share from 0 (no validation) to below 1, such as 0.1")
        require(0 <= self.max_rejects <= 1, "max_rejects", self.max_rejects, "a share from 0 to 1")
        if self.split == "given" and not self.test_source:
            raise AmzrecError("--split given needs the file of test reviews: add --test-source FILE")
        if self.test_source and self.split != "given":
            raise AmzrecError(f"--test-source needs --split given; found --split {self.split}")

    def protocol(self) -> dict[str, Any]:
        """The part that decides which rows are compared: what `metrics.json` repeats as its protocol."""
        keys = ("split", "test", "valid", "seed", "product_key", "min_reviews", "min_stars", "catalogue")
        return {key: value for key, value in self.to_json().items() if key in keys}
