"""The learned vectors at work: retrieve, rate, similar products, and fold-in of what a person likes."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from amzrec.answers.folding import Pasts, biases, folded, said
from amzrec.answers.given import spellings, text_of
from amzrec.answers.index import ExactIndex, Index, columns_of, find
from amzrec.answers.names import nearest, nearest_products
from amzrec.answers.ranks import best
from amzrec.arrays import Array, Bools, Doubles, Floats, Lists, Rows, among
from amzrec.errors import AmzrecError
from amzrec.store.memory import Votes
from amzrec.store.moment import nearby, spans
from amzrec.store.times import period_of
from amzrec.store.vectors import Vectors

RATED_AT_ONCE = 1 << 16  # pairs whose features are held at once
POPULAR = 0.5  # share of popularity in what goes with a product, chosen on valid (LOG.md, 2026-12-01)
LOOKED_AT = 2001  # rows of the history vectors that tell whether a run has histories at all


@dataclasses.dataclass(frozen=True)
class Query:
    """One customer as the two scores see it."""

    retrieval: Floats  # [Dr + 1], last 1
    rating: Floats  # [K + 2], see Vectors
    history: Rows  # product rows that vote, the latest last


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

    @cached_property
    def average_popularity(self) -> float:
        """The mean of what the candidates' popularity adds to their scores."""
        return float(self.candidate_vectors[:, -1].mean(dtype=np.float64)) if len(self.candidates) else 0.0

    @property
    def has_stars(self) -> bool:
        """Whether the run learned from stars at all (clicks alone have none)."""
        return self.vectors.head.mean is not None

    # --- who and what

    def customer(self, customer_id: str) -> int:
        """Find the row of a customer; 0 for one that the dataset does not have."""
        text = text_of(customer_id, "the customer") if customer_id != "" else ""
        found = (self.vectors.customer_ids.find(spelled) for spelled in spellings(text)) if text else iter(())
        return next((row for row in found if row), 0)

    def knows(self, customer: int) -> bool:
        """Tell whether the model was fitted on reviews of this customer row."""
        return customer > 0 and int(self.vectors.customer_counts[customer]) > 0

    def product(self, name: str) -> int:
        """Find the row of a product by its id, or else by its exact title.

        Raises AmzrecError with the nearest names for an unknown one.
        """
        name = text_of(name, "a product")
        row = self.find_product(name)
        if not row:
            near = nearest_products(name, self.vectors)
            hint = f"; the nearest are: {' | '.join(near)}" if near else ""
            raise AmzrecError(f"there is no product {name!r} in this run (neither as id nor as title){hint}")
        return row

    def find_product(self, name: str) -> int:
        """Find the row of a product by its id, or else by its exact title; 0 for an unknown one."""
        if not name:
            return 0
        found = (self.vectors.product_ids.find(name), self.vectors.titles.find(name))
        others = (self.vectors.product_ids.find(spelled) for spelled in spellings(name))
        return next((row for row in itertools.chain(found, others) if row), 0)

    def having(self, wanted: Sequence[str]) -> Bools:
        """Tell which candidates [M] have the features `wanted`, each "name=value": of every name one of its values.

        Raises AmzrecError for a feature that no product has, with the nearest ones.
        """
        rows_of_name: dict[str, list[int]] = {}
        for feature in wanted:
            rows_of_name.setdefault(feature.partition("=")[0], []).append(self.feature(feature))
        have = np.ones(len(self.candidates), np.bool_)
        for rows in rows_of_name.values():
            with_one = np.zeros(len(have), np.bool_)
            for row in rows:
                with_one[self.candidates_by_feature[row]] = True
            have &= with_one
        return have

    @cached_property
    def candidates_by_feature(self) -> Lists:
        """The positions among the candidates of those that have each feature row; made at the first question."""
        product, feature = self.vectors.features_of_products.pairs()
        place, there = find(self.candidates, np.asarray(product, np.int32))
        return Lists.of(feature[there], place[there], len(self.vectors.features or ()))

    def feature(self, feature: str) -> int:
        """Find the row of a feature "name=value"; AmzrecError with the nearest ones for an unknown one."""
        features = self.vectors.features
        row = features.find(feature) if features else None
        if row is None:
            hint = ": the reviews it was trained on told no features of products"
            if features:
                names = [features[row] for row in range(len(features))]
                hint = f"; such as {' | '.join(nearest(feature, names) or sorted(names)[:3])}"
            raise AmzrecError(f"no product of this run has the feature {feature!r} (name=value){hint}")
        return row

    @cached_property
    def feature_names(self) -> list[str]:
        """Return the name of each feature [F]: what stands before the = of "name=value"."""
        features = self.vectors.features
        return [features[row].partition("=")[0] for row in range(len(features))] if features else []

    def only(self, wanted: Sequence[str], unwanted: Sequence[str] = ()) -> Recommender:
        """Return a recommender of the candidates that have the features `wanted` and none of the `unwanted` ones.

        Nothing of it is copied.
        """
        if not wanted and not unwanted:
            return self
        have = self.having(wanted)
        for feature in unwanted:
            have &= ~self.having([feature])
        return self.searching(self.index.keeping(have))

    def among(self, products: Rows) -> Recommender:
        """Return a recommender of those candidates that are among these product rows [n]."""
        have = np.zeros(len(self.candidates), np.bool_)
        have[columns_of(self.candidates, products)] = True
        return self.searching(self.index.keeping(have))

    def at(self, time: float) -> Recommender:
        """Return a recommender that adds to its scores what was popular at a time, in unix seconds.

        Its search is exact. Raises AmzrecError where the run has no dates.
        """
        v = self.vectors
        if v.context is None and v.rating_context is None and v.head.moment is None:
            raise AmzrecError(
                "this run does not know what was when, for its reviews had no dates: ask without at, or train on "
                "reviews with dates"
            )
        if v.context is None or v.context_edges is None:
            return self
        period = int(period_of(v.context_edges, np.array([time]))[0])
        return self.searching(self.index.shifted(np.asarray(v.context[period])[self.candidates]))

    def dated(self, query: Query, customer: int, time: float) -> Query:
        """Return the query of a customer row as of a time, in unix seconds: with the trend of stars and the moment."""
        v, rating = self.vectors, query.rating.copy()
        times = np.array([time])
        if v.rating_context is not None and v.context_edges is not None:
            rating[-1] += v.rating_context[int(period_of(v.context_edges, times)[0])]
        rating[-1] += self.moved(np.array([customer], np.int32), times)[0]
        return dataclasses.replace(query, rating=rating)

    def searching(self, index: Index) -> Recommender:
        """Return a recommender of the same vectors that searches with another index."""
        other = copy.copy(self)
        other._index = index
        other.__dict__.pop("index", None)
        return other

    def seen(self, customer: int, parts: Sequence[int] | None = None) -> tuple[Rows, Floats]:
        """Return the products and stars (NaN for none) that a customer reviewed.

        `parts` keeps those of some parts only: 0 train, 1 valid, 2 test.
        """
        reviews = self.vectors.seen.span(customer)
        product, stars = self.vectors.seen_product[reviews], self.vectors.seen_stars[reviews]
        if parts is not None:
            kept = among(self.vectors.seen_part[reviews], np.asarray(parts))
            product, stars = product[kept], stars[kept]
        return product, stars

    # --- queries

    def query(self, customer: int) -> Query:
        """Return the stored query of a customer row; row 0 is the unknown customer, answered by popularity."""
        return Query(
            self.vectors.retrieval_query[customer], self.vectors.rating_query[customer], self.history(customer)
        )

    def history(self, customer: int) -> Rows:
        """Return the products of a customer that the model was fitted on, the latest last."""
        return self.seen(customer, self.vectors.head.fit_tags)[0]

    def votes(self, histories: Sequence[Rows]) -> Votes | None:
        """Add up what histories vote for; None where the run has no memory."""
        memory = self.vectors.memory
        return None if memory is None else memory.votes(Lists.join(histories))

    def fold_in(self, customer: int, liked: Rows, stars: Floats | None = None, weights: Floats | None = None) -> Query:
        """Compute the query of a customer row (0: a new customer) after more reviews, without retraining.

        `liked` are product rows, `stars` what was given to each (NaN or None: a click, which adds no residual), and
        `weights` what each counts beside a review, which counts 1.
        See `folding.folded`: nothing new gives the stored query. Products that are in the history already are not
        counted twice. Raises AmzrecError where the run has no
        histories (--features ids).
        """
        past = self.past(customer, liked, stars, weights)
        retrieval, rating = folded(self.vectors, np.array([customer]), past)
        return Query(retrieval[0], rating[0], past.product)

    def past(self, customer: int, liked: Rows, stars: Floats | None = None, weights: Floats | None = None) -> Pasts:
        """Return the fitted reviews of a customer row and, behind them, what is liked and new; see fold_in."""
        if len(liked):
            self.need_histories()
        product, given = self.seen(customer, self.vectors.head.fit_tags)
        new = ~among(liked, product)
        more = np.full(len(liked), np.nan, np.float32) if stars is None else np.asarray(stars, np.float32)
        counts = np.ones(len(liked), np.float32) if weights is None else np.asarray(weights, np.float32)
        return Pasts(
            Lists.join([np.concatenate([product, np.asarray(liked, np.int32)[new]])]),
            np.concatenate([given, more[new]]).astype(np.float64),
            np.concatenate([np.ones(len(product)), counts[new]]),
        )

    def added(self, past: Pasts) -> Doubles:
        """Compute what each review of a past adds to the vector of its customer, [n, D]; see fold_in."""
        return said(self.vectors, past, biases(self.vectors, past))

    def need_histories(self) -> None:
        """Raise AmzrecError where products that a person likes cannot be folded in."""
        if missing := self.why_no_histories():
            raise AmzrecError(f"this run cannot use liked products: {missing}, or leave --liked out")

    def why_no_histories(self) -> str:
        """Return why products that a person likes cannot be folded in, and what to do; nothing where they can be."""
        if self.vectors.head.history == "sequence" and self.vectors.attention is None:
            return (
                "it was trained with --history sequence by an amzrec that did not keep what reads them. Train it again"
            )
        if not np.any(self.vectors.history_bag[:LOOKED_AT]):
            return "it was trained with --features ids, which has no histories. Train with --features full"
        return ""

    # --- answers

    def retrieve(
        self, queries: Floats, k: int, exclude: Sequence[Rows] | None = None, histories: Sequence[Rows] | None = None
    ) -> tuple[Rows, Floats]:
        """Return product rows and scores [B, k], best first, short lists padded with row 0 and -inf (Index.search).

        `histories` are the products of each query that vote for others; None: nothing votes.
        """
        return self.index.search(queries, k, exclude, None if histories is None else self.votes(histories))

    def scores(self, customer: int, products: Rows) -> Floats:
        """Compute the retrieval scores [n] of a customer row for product rows [n]."""
        v = self.vectors
        scores = np.asarray(v.retrieval_candidate[products] @ v.retrieval_query[customer], np.float32)[None]
        votes = self.votes([self.history(customer)])
        if votes is not None:
            place = np.full(len(v.product_ids), -1, np.int64)
            place[products] = np.arange(len(products))
            votes.add(scores, place)
        found: Floats = scores[0]
        return found

    def rate(self, queries: Floats, products: Rows, clip: bool = True) -> Floats:
        """Predict the stars [B] of rating queries [B, K + 2] and product rows [B], on the scale of the source.

        `clip=False` gives the raw values, whose order has no ties at the ends of the scale.
        """
        head, stars = self.vectors.head, np.empty(len(products), np.float32)
        for start in range(0, len(products), RATED_AT_ONCE):
            part = slice(start, start + RATED_AT_ONCE)
            stars[part] = self._raw_stars(queries[part], self.vectors.rating_candidate[products[part]])
        return np.clip(stars, head.low, head.high) if clip else stars

    def dated_queries(self, customers: Rows, times: Array) -> Floats:
        """Return the rating queries [B, K + 2] of customer rows [B] as of times [B] in unix seconds: with the trend."""
        v = self.vectors
        queries = v.rating_query[customers]  # a copy
        if v.rating_context is not None and v.context_edges is not None:
            queries[:, -1] += v.rating_context[period_of(v.context_edges, times)]
        return queries

    def moved(self, customers: Rows, times: Array) -> Doubles:
        """Tell by how many stars [B] what customer rows [B] gave near times [B], in unix seconds, moves their stars.

        What they gave is taken from the fitted reviews, as stars beyond what the model expects; 0 in a run without a
        moment. See store.moment.
        """
        v, moment = self.vectors, self.vectors.head.moment
        if moment is None or v.seen_time is None:
            return np.zeros(len(customers))
        rows, which = np.unique(customers, return_inverse=True)
        place = v.seen.slots(rows)
        owner = np.repeat(np.arange(len(rows)), v.seen.lengths[rows])
        known = np.isin(v.seen_part[place], v.head.fit_tags) & ~np.isnan(v.seen_stars[place])
        place, owner = place[known], owner[known]
        when, product = np.asarray(v.seen_time[place]), v.seen_product[place]
        expected = self.rate(self.dated_queries(rows[owner], when), product, clip=False)
        residuals = (v.seen_stars[place] - expected).astype(np.float64)
        near = spans(Lists.of(owner, owner, len(rows)), which)
        moved: Doubles = nearby(near, residuals, when, times, moment) @ np.array(moment.shares)
        return moved

    def _raw_stars(self, q: Floats, v: Floats) -> Floats:
        """Compute mean + additive terms + weighted dot product + MLP, for aligned [b, K + 2]; see Vectors."""
        cross = q[:, :-2] * v[:, :-2]  # [b, K]
        stars = (self.vectors.head.mean or 0.0) + q[:, -1] + v[:, -1] + cross @ self.vectors.rating_weight
        if self.vectors.layers:
            hidden: Array = np.concatenate([q[:, :-1], v[:, :-1], cross], axis=1)  # [b, 3K + 2]
            for number, (kernel, bias) in enumerate(self.vectors.layers):
                hidden = hidden @ kernel + bias
                if number < len(self.vectors.layers) - 1:
                    hidden = np.maximum(hidden, 0)
            stars = stars + hidden[:, 0]
        return np.asarray(stars, np.float32)

    def similar(self, product: int, k: int) -> tuple[Rows, Floats]:
        """Return the k candidates [k] that go best with a product row.

        The score is y · (y_product + x) + b · POPULAR and the votes of the product, where x is the query of somebody
        who has this product alone, without histories 0. All of popularity would answer everybody's favourites, none of
        it leaves out what half of the customers go on to. Not the cosine: the length of a vector says how sure the
        model is of its direction, and without it rarely reviewed products come first (LOG.md). Fewer than k come where
        the catalogue is smaller; the product itself, and products whose vector is 0, of which nothing is known, are
        left out.
        """
        vectors, one = self.candidate_vectors[:, :-1], np.array([product], np.int32)
        asked = np.append(np.asarray(self.vectors.retrieval_candidate[product, :-1], np.float32), np.float32(POPULAR))
        if not self.why_no_histories():
            asked[:-1] += self.fold_in(0, one).retrieval[:-1]
        scores = self.candidate_vectors @ asked  # [M]
        known = np.any(vectors, axis=1)
        votes = self.votes([one])
        if votes is not None:
            place = np.full(len(self.vectors.product_ids), -1, np.int64)
            place[self.candidates] = np.arange(len(self.candidates))
            scores = scores[None].astype(np.float32)
            votes.add(scores, place)
            scores = scores[0]
        scores = np.where(known & (self.candidates != product), scores, -np.inf).astype(np.float32)
        columns = best(scores[None, :], k)[0]
        columns = columns[columns >= 0]
        return self.candidates[columns], scores[columns]
