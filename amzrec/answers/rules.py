"""How a list is made of what was retrieved: its order, how varied it is, and how many of one kind it may hold."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np

from amzrec.answers.listing import SORTS, resort
from amzrec.answers.recommender import Recommender
from amzrec.arrays import Bools, Floats, Ints, Rows
from amzrec.errors import AmzrecError
from amzrec.settings import require

DEPTH = 100  # best retrieved products that a list is chosen from, where it is not simply the best ones
TIMES = 10  # … and so many for each product that is asked for


@dataclasses.dataclass(frozen=True)
class Rules:
    """The rules of a list, for one recommender."""

    sort: str  # one of SORTS
    diversify: float  # 0: by the order alone; 1: each product as unlike those before it as can be
    limits: tuple[tuple[int, Bools], ...]  # most products with one value of a feature; which features [F] are meant

    @classmethod
    def of(cls, model: Recommender, sort: str, diversify: float, at_most: Sequence[str]) -> Rules:
        """Read the flags of `recommend`; AmzrecError for one that the run cannot follow, or that is out of range."""
        require(sort in SORTS, "sort", sort, " | ".join(SORTS))
        require(0 <= diversify <= 1, "diversify", diversify, "a number from 0 to 1")
        if sort != "retrieval" and not model.has_stars:
            raise AmzrecError(
                f"--sort {sort} needs stars, and this run was trained on clicks alone: use --sort retrieval"
            )
        return cls(sort, float(diversify), tuple(limit(model, text) for text in at_most))

    def depth(self, k: int, candidates: int) -> int:
        """Tell how many products to retrieve for a list of k."""
        plain = self.sort == "retrieval" and not self.diversify and not self.limits
        return min(k if plain else max(k, DEPTH, TIMES * k if self.limits or self.diversify else 0), candidates)

    def choose(self, model: Recommender, rows: Rows, scores: Floats, stars: Floats | None, k: int) -> Ints:
        """Choose k of the retrieved product rows [n], best first: their positions, fewer where the rules leave fewer.

        With `diversify` λ the next product is the one of the largest (1 − λ) · relevance − λ · likeness, where likeness
        is the largest cosine with a product that was chosen (maximal marginal relevance, Carbonell and Goldstein 1998).
        """
        order = resort(scores, stars, self.sort)
        if not self.diversify and not self.limits:
            return order[:k]
        relevance = self.relevance(scores, stars)[order]
        units = unit_vectors(model.vectors.retrieval_candidate[rows[order], :-1])
        features = [model.vectors.features_of_products[row] for row in rows[order]] if self.limits else []
        likeness, left = np.zeros(len(order)), np.ones(len(order), np.bool_)
        counts: Counter[int] = Counter()
        chosen: list[int] = []
        while left.any() and len(chosen) < k:
            worth = (1 - self.diversify) * relevance - self.diversify * likeness
            place = int(np.argmax(np.where(left, worth, -np.inf)))
            left[place] = False
            if self.limits and not self.allows(features[place], counts):
                continue
            cosine = units @ units[place]
            likeness = np.maximum(likeness, cosine) if chosen else cosine
            chosen.append(place)
        return order[np.array(chosen, np.int64)]

    def relevance(self, scores: Floats, stars: Floats | None) -> Floats:
        """Scale what the list is ordered by to 0 .. 1, [n]; "blend" has its place in the order."""
        if self.sort == "blend":
            value = np.empty(len(scores), np.float32)
            value[resort(scores, stars, self.sort)] = np.linspace(1, 0, len(scores), dtype=np.float32)
            return value
        value = np.asarray(stars if self.sort == "stars" and stars is not None else scores)
        spread = float(np.ptp(value)) if len(value) else 0.0
        return (value - value.min()) / spread if spread else np.ones_like(value)

    def allows(self, features: Rows, counts: Counter[int]) -> bool:
        """Tell whether a product with these features may still come, and if so count it."""
        mine = [(most, int(f)) for most, meant in self.limits for f in features if meant[f]]
        if any(counts[feature] >= most for most, feature in mine):
            return False
        counts.update({feature for _, feature in mine})  # once, also where two limits name it
        return True


def limit(model: Recommender, text: str) -> tuple[int, Bools]:
    """Read a limit such as category=2: most products of one category."""
    name, _, number = text.partition("=")
    if not (number.isdecimal() and int(number)):
        raise AmzrecError(f"--at-most {text}; allowed: NAME=NUMBER, such as category=2")
    names = model.feature_names
    meant = np.array([each == name for each in names], np.bool_)
    if not meant.any():
        known = ", ".join(sorted(set(names))) or "none: its reviews told no features of products"
        raise AmzrecError(f"--at-most {text}: no product of this run has a {name!r}; features of this run: {known}")
    return int(number), meant


def unit_vectors(vectors: Floats) -> Floats:
    """Divide vectors [n, d] by their length; a vector of zeros stays."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: Floats = np.divide(vectors, length, out=np.zeros_like(vectors, np.float32), where=length > 0)
    return units
