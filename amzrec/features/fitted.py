"""The reviews that a model is fitted on, as arrays in model units."""

from __future__ import annotations

import dataclasses

import numpy as np

from amzrec.arrays import Floats, Ints, Lists, Rows, offsets_of
from amzrec.config import Recipe
from amzrec.features.attributes import Attributes
from amzrec.features.popularity import Popularity, time_kernel
from amzrec.features.profiles import SHRINK_CUSTOMER, SHRINK_PRODUCT, Biases, Grouping, Histories, Profiles
from amzrec.features.scale import Scale
from amzrec.store.dataset import Dataset, Reviews

TREND_HALF_LIFE = 180.0  # days over which the trend of the stars is spread, both ways
TREND_SHRINK = 100.0  # reviews' worth of belief that a period is as kind as any other
FEW = 10  # rated reviews below which the biases count as they are


@dataclasses.dataclass(frozen=True)
class Fitted:
    """n fitted reviews, and what they say about customers, products and time.

    "Own" values are those that a review is scored with in training: it is left out of them itself.
    """

    customer: Rows  # [n]
    product: Rows  # [n]
    value: Floats  # [n] stars in model units, 0 where there are none
    rated: Floats  # [n] 1 where there are stars, else 0
    period: Rows  # [n] period of `popularity` in which the review was written
    own_log_share: Floats  # [n] log share of its product in its period
    own_trend: Floats  # [n] how much kinder its period was than others, in model units
    order_slot: Ints  # [n] where the review stands in `order`
    order: Lists  # [C + 1] products of each customer in the order of time; without items unless order is read
    popularity: Popularity
    trend: Floats  # [T] how much kinder each period was, in model units; 0 where that did not help on valid
    customers: Profiles
    products: Profiles
    candidates: Rows  # [M] product rows to retrieve from, ascending
    scale: Scale

    def __len__(self) -> int:
        return len(self.customer)

    def with_popularity(self, reviews: Reviews, half_life: float | None) -> Fitted:
        """Replace the popularity by one with this half-life in days (None: of all time), and forget the trend."""
        popularity = Popularity.of(self.product, reviews.timestamp, len(self.products), half_life)
        return dataclasses.replace(
            self,
            popularity=popularity,
            period=popularity.period(reviews.timestamp),
            own_log_share=popularity.own_log_share,
            own_trend=np.zeros_like(self.value),
            trend=np.zeros(popularity.periods, np.float32),
        )

    def biases_without(self) -> tuple[Floats, Floats]:
        """The shrunk biases of each review's customer and product, [n] each, the review itself left out of both."""
        sides = (self.customers, self.customer), (self.products, self.product)
        customer, product = (side.biases.without(rows, self.value, self.rated) for side, rows in sides)
        return customer, product

    def bias_scale(self) -> tuple[float, float]:
        """What the shrunk biases of customer and product are worth: least squares, each review left out of its own."""
        rated = self.rated > 0
        if rated.sum() < FEW:
            return 1.0, 1.0
        a = np.stack(self.biases_without(), axis=1)[rated].astype(np.float64)
        solved = np.linalg.solve(a.T @ a + 1e-6 * np.eye(2), a.T @ self.value[rated])
        return float(solved[0]), float(solved[1])

    def with_trend(self) -> Fitted:
        """Add the trend of the stars: what the biases leave of each period, spread over time both ways.

        trend_t = Σ_i 2^(−|t − t_i| / half-life) · (value_i − biases) / (Σ 2^(…) + TREND_SHRINK); after the last fitted
        review it is the decayed mean as of the end.
        """
        periods = self.popularity.periods
        if periods < 2:
            return self
        scale, (customer, product) = self.bias_scale(), self.biases_without()
        rest = (self.value - scale[0] * customer - scale[1] * product) * self.rated
        kernel = time_kernel(periods, self.popularity.period_days, TREND_HALF_LIFE)
        total, number = (kernel @ np.bincount(self.period, weights, periods) for weights in (rest, self.rated))
        own = (total[self.period] - rest) / (number[self.period] - self.rated + TREND_SHRINK)
        trend = (total / (number + TREND_SHRINK)).astype(np.float32)
        return dataclasses.replace(self, trend=trend, own_trend=own.astype(np.float32))


def fit(dataset: Dataset, reviews: Reviews, recipe: Recipe) -> Fitted:
    """Arrange reviews for training; histories are capped at random, from the recipe's seed."""
    rng = np.random.default_rng([recipe.seed, 1])
    scale = Scale.of(reviews.stars, dataset.info.stars)
    value, rated = scale.to_model(reviews.stars), (~np.isnan(reviews.stars)).astype(np.float32)
    tables = (dataset.customers, dataset.products)
    rows = (reviews.customer, reviews.product)
    biases = [
        Biases.of(own, value, rated, table.num_rows, shrink)
        for own, table, shrink in zip(rows, tables, (SHRINK_CUSTOMER, SHRINK_PRODUCT), strict=True)
    ]
    sides = []
    for own, partner in ((0, 1), (1, 0)):
        size = tables[own].num_rows
        residual = (value - biases[partner].all[rows[partner]]) * rated
        grouping = Grouping.capped(rows[own], size, recipe.history_cap, rng)
        histories = Histories.of(grouping, rows[partner], residual, rated)
        counts = np.bincount(rows[own], minlength=size)
        vector_row = np.where(counts >= recipe.own_vector, np.arange(size), 0).astype(np.int32)
        sides.append(Profiles(counts, vector_row, biases[own], histories, Attributes.of(tables[own])))
    size = tables[1].num_rows
    plain = recipe.features == "ids"
    popularity = Popularity.unknown(len(value), size) if plain else Popularity.of_all_time(reviews.product, size)
    ordered = recipe.history != "bag" or (recipe.memory and dataset.has_time)
    order, order_slot = in_order(reviews, tables[0].num_rows, ordered)
    return Fitted(
        customer=reviews.customer,
        product=reviews.product,
        value=value,
        rated=rated,
        period=popularity.period(reviews.timestamp),
        own_log_share=popularity.own_log_share,
        own_trend=np.zeros_like(value),
        order_slot=order_slot,
        order=order,
        popularity=popularity,
        trend=np.zeros(1, np.float32),
        customers=sides[0],
        products=sides[1],
        candidates=dataset.candidates(sides[1].counts),
        scale=scale,
    )


def in_order(reviews: Reviews, size: int, wanted: bool) -> tuple[Lists, Ints]:
    """List the products of each of `size` customers in the order of time, equal times by product row.

    Returns the lists and where each review stands in them; lists without items where they are not `wanted`.
    """
    if not wanted:
        return Lists.empty(size), np.zeros(len(reviews), np.int64)
    order = np.lexsort((reviews.product, reviews.timestamp, reviews.customer))
    slot = np.empty(len(order), np.int64)
    slot[order] = np.arange(len(order))
    offsets = offsets_of(np.bincount(reviews.customer, minlength=size))
    return Lists(offsets, reviews.product[order].astype(np.int32)), slot
