"""The learned vectors at work: retrieve, rate, similar products, and fold-in of what a person likes."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from amzrec.answers.index import ExactIndex, Index
from amzrec.answers.ranks import best
from amzrec.errors import AmzrecError
from amzrec.store.strings import Strings
from amzrec.store.vectors import Vectors

RATED_AT_ONCE = 1 << 16  # pairs whose features are held at once
SHORTLIST = 2000  # names compared letter by letter when a product is not found
NEIGHBOURS = 100  # names before and after the place where the missing one would stand in order

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int32]
Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Query:
    """One customer as the two scores see it."""

    retrieval: Floats  # [Dr + 1], last 1
    rating: Floats  # [K + 2], see Vectors


class Recommender:
    """Answers from the vectors of one run; nothing but numpy is needed."""

    def __init__(self, vectors: Vectors, index: Index | None = None) -> None:
        self.vectors = vectors
        self._index = index

    @cached_property
    def index(self) -> Index:
        """Top-k over the candidates; exact unless another was given."""
        return self._index or ExactIndex(self.candidate_vectors, self.candidates)

    @property
    def candidates(self) -> Rows:
        """[M] product rows that may be recommended, ascending."""
        return self.vectors.candidates

    @cached_property
    def candidate_vectors(self) -> Floats:
        """[M, Dr + 1]; a view of the file where the candidates are consecutive rows, as they are by default."""
        rows, table = self.candidates, self.vectors.retrieval_candidate
        if len(rows) and int(rows[-1]) - int(rows[0]) + 1 == len(rows):
            return table[int(rows[0]) : int(rows[-1]) + 1]
        return table[rows]

    @property
    def has_stars(self) -> bool:
        """Whether the run learned from stars at all (clicks alone have none)."""
        return self.vectors.head.mean is not None

    def customer(self, customer_id: str) -> int:
        """The row of this customer, 0 for one that the dataset does not have."""
        return (self.vectors.customer_ids.find(customer_id) or 0) if customer_id else 0

    def knows(self, customer: int) -> bool:
        """Whether the model was fitted on reviews of this customer row."""
        return customer > 0 and int(self.vectors.customer_counts[customer]) > 0

    def product(self, name: str) -> int:
        """The row of a product, by id or else by exact title; AmzrecError with the nearest names for an unknown one."""
        row = self.vectors.product_ids.find(name) or self.vectors.titles.find(name) if name else None
        if not row:
            near = nearest_names(name, self.vectors)
            hint = f"; the nearest are: {' | '.join(near)}" if near else ""
            raise AmzrecError(f"there is no product {name!r} in this run (neither as id nor as title){hint}")
        return row

    def having(self, wanted: Sequence[str]) -> npt.NDArray[np.bool_]:
        """[M] which candidates have the features `wanted`, each "name=value": of every name one of its values.

        AmzrecError for a feature that no product has, with the nearest ones.
        """
        v = self.vectors
        names = [v.features[row] for row in range(len(v.features))] if v.features else []
        groups: dict[str, list[int]] = {}
        for feature in wanted:
            row = v.features.find(feature) if v.features else None
            if row is None:
                near = difflib.get_close_matches(feature, names, n=3, cutoff=0.5) or sorted(names)[:3]
                hint = (
                    f"; such as {' | '.join(near)}"
                    if near
                    else ": the reviews it was trained on told no features of products"
                )
                raise AmzrecError(f"no product of this run has the feature {feature!r} (name=value){hint}")
            groups.setdefault(feature.partition("=")[0], []).append(row)
        left = np.ones(len(v.product_ids), np.bool_)
        for rows in groups.values():
            product, features = v.features_of_products.pairs()
            left &= np.bincount(product[np.isin(features, rows)], minlength=len(left)) > 0
        found: npt.NDArray[np.bool_] = left[self.candidates]
        return found

    def only(self, wanted: Sequence[str]) -> Recommender:
        """The same answers from the candidates that have these features alone; exact search, as they are few."""
        if not wanted:
            return self
        left = self.having(wanted)
        return Recommender(self.vectors, ExactIndex(self.candidate_vectors[left], self.candidates[left]))

    def seen(self, customer: int, parts: Sequence[int] | None = None) -> tuple[Rows, Floats]:
        """Products and stars (NaN for none) that a customer reviewed; of `parts` (0 train, 1 valid, 2 test) only."""
        mine = self.vectors.seen.span(customer)
        product, stars = self.vectors.seen_product[mine], self.vectors.seen_stars[mine]
        if parts is not None:
            kept = np.isin(self.vectors.seen_part[mine], parts)
            product, stars = product[kept], stars[kept]
        return product, stars

    def query(self, customer: int) -> Query:
        """The stored query of a customer row; row 0 is the unknown customer, answered by popularity."""
        return Query(self.vectors.retrieval_query[customer], self.vectors.rating_query[customer])

    def fold_in(self, customer: int, liked: Rows, stars: Floats | None = None) -> Query:
        """The query of a customer row (0: a new customer) after more reviews, without retraining.

        `liked` are product rows, `stars` what was given to each (NaN or None: a click, which adds no residual).
        x = base + (sum of bags + sum of residual * residual vectors) / sqrt(n + 1) over the n fitted and liked
        reviews (Koren 2008, SVD++, eq. 15, with residuals beside the clicks): what the towers compute, so nothing new
        gives the stored query. Products that are in the history already are not counted twice. AmzrecError where the
        run has no histories (--features ids) or reads them in order (--history sequence).
        """
        v, head = self.vectors, self.vectors.head
        if len(liked) and head.history == "sequence":
            raise AmzrecError(
                "this run cannot use liked products: it was trained with --history sequence, which reads products in "
                "the order of their time. Train without it, or leave --liked out"
            )
        if len(liked) and not np.any(v.history_bag[: SHORTLIST + 1]):
            raise AmzrecError(
                "this run cannot use liked products: it was trained with --features ids, which has no histories. "
                "Train with --features full, or leave --liked out"
            )
        product, given = self.seen(customer, head.fit_tags)
        fresh = ~np.isin(liked, product)
        added = np.full(len(liked), np.nan, np.float32) if stars is None else np.asarray(stars, np.float32)
        product = np.concatenate([product, np.asarray(liked, np.int32)[fresh]])
        given = np.concatenate([given, added[fresh]]).astype(np.float64)
        rated = ~np.isnan(given)
        mean = head.mean or 0.0
        bias = float((given[rated] - mean).sum() / (rated.sum() + head.bias_shrinkage))
        residual = np.where(rated, given - mean - v.product_bias[product] - bias, 0.0)
        history = v.history_bag[product].sum(axis=0, dtype=np.float64) + residual @ v.history_residual[product]
        x = v.query_base[customer] + history / np.sqrt(len(product) + 1)
        stored = v.rating_query[customer]
        additive = stored[-1] + head.bias_weight * (bias - stored[-2])
        return Query(
            np.append(x[: head.retrieval_dims] / head.temperature, 1.0).astype(np.float32),
            np.concatenate([x[head.rating_start :], [bias, additive]]).astype(np.float32),
        )

    def retrieve(self, queries: Floats, k: int, exclude: Sequence[Rows] | None = None) -> tuple[Rows, Floats]:
        """Product rows and scores [B, k], best first, short lists padded with row 0 and -inf (see Index.search)."""
        return self.index.search(queries, k, exclude)

    def rate(self, queries: Floats, products: Rows, clip: bool = True) -> Floats:
        """Predicted stars [B] for rating queries [B, K + 2] and product rows [B], on the scale of the source.

        `clip=False` gives the raw values, whose order has no ties at the ends of the scale.
        """
        head, out = self.vectors.head, np.empty(len(products), np.float32)
        for start in range(0, len(products), RATED_AT_ONCE):
            part = slice(start, start + RATED_AT_ONCE)
            out[part] = self._raw_stars(queries[part], self.vectors.rating_candidate[products[part]])
        return np.clip(out, head.low, head.high) if clip else out

    def _raw_stars(self, q: Floats, v: Floats) -> Floats:
        """mean + additive terms + weighted dot product + MLP, for aligned [b, K + 2]."""
        cross = q[:, :-2] * v[:, :-2]  # [b, K]
        stars = (self.vectors.head.mean or 0.0) + q[:, -1] + v[:, -1] + cross @ self.vectors.rating_weight
        if self.vectors.layers:
            hidden = np.concatenate([q[:, :-1], v[:, :-1], cross], axis=1)  # [b, 3K + 2]
            for number, (kernel, bias) in enumerate(self.vectors.layers):
                hidden = hidden @ kernel + bias
                if number < len(self.vectors.layers) - 1:
                    hidden = np.maximum(hidden, 0)
            stars = stars + hidden[:, 0]
        return np.asarray(stars, np.float32)

    def similar(self, product: int, k: int) -> tuple[Rows, Floats]:
        """The k candidates [k] with the largest inner product with a product row, without itself and popularity b.

        Not the cosine: the length of a vector says how sure the model is of its direction, and without it rarely
        reviewed products come first (LOG.md). Fewer than k where the catalogue is smaller; products whose vector is 0,
        of which nothing is known, are left out.
        """
        vectors = self.candidate_vectors[:, :-1]
        scores = vectors @ np.asarray(self.vectors.retrieval_candidate[product, :-1], np.float32)  # [M]
        known = np.any(vectors, axis=1)
        scores = np.where(known & (self.candidates != product), scores, -np.inf).astype(np.float32)
        place = best(scores[None, :], k)[0]
        place = place[place >= 0]
        return self.candidates[place], scores[place]


def nearest_names(name: str, vectors: Vectors, n: int = 3) -> list[str]:
    """Titles, or ids where there are none, that are spelled most like `name`; at once also for a million products.

    Only a shortlist is compared letter by letter: names that hold a word of `name`, neighbours in order, and the
    most reviewed products.
    """
    names = vectors.titles if len(vectors.titles.blob) else vectors.product_ids
    rows = [*_holding(name, names), *_neighbours(name, names), *range(1, min(len(names), SHORTLIST))]
    if names is not vectors.product_ids:
        ids = [vectors.product_ids[row] for row in _neighbours(name, vectors.product_ids)]
    else:
        ids = []
    spelled = {text.casefold(): text for text in [*(names[row] for row in dict.fromkeys(rows)), *ids] if text}
    return [spelled[key] for key in difflib.get_close_matches(name.casefold(), spelled, n, 0.5)]


def _holding(name: str, names: Strings) -> list[int]:
    """Rows whose name holds one of the three longest words of `name`, at most SHORTLIST / 4 for each word."""
    text, found = bytes(names.blob).lower(), list[int]()
    for word in sorted({w for w in name.lower().encode().split() if len(w) > 2}, key=len, reverse=True)[:3]:
        place, hits = text.find(word), 0
        while place >= 0 and hits < SHORTLIST // 4:
            row = int(np.searchsorted(names.offsets, place, side="right")) - 1
            found.append(row)
            hits += 1
            place = text.find(word, int(names.offsets[row + 1]))
    return found


def _neighbours(name: str, names: Strings) -> list[int]:
    """Rows around the place where `name` would stand among the sorted names."""
    key, low, high = name.encode(), 0, len(names)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if names.raw(names.order[middle]) < key else (low, middle)
    return [int(row) for row in names.order[max(0, low - NEIGHBOURS) : low + NEIGHBOURS]]
