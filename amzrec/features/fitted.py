"""The reviews that a model is fitted on, as arrays, with their stars in model units."""

from __future__ import annotations

import dataclasses

import numpy as np

from amzrec.arrays import Array, Floats, Ints, Lists, Rows, compact, offsets_of, positions
from amzrec.config import Recipe
from amzrec.features.attributes import Attributes
from amzrec.features.popularity import Popularity, time_kernel
from amzrec.features.profiles import (
    CUSTOMER_BIAS_SHRINKAGE,
    PRODUCT_BIAS_SHRINKAGE,
    Biases,
    Grouping,
    Histories,
    Profiles,
)
from amzrec.features.scale import ModelScale
from amzrec.store.dataset import Dataset, Reviews

TREND_HALF_LIFE = 180.0  # days after which a review counts half in the trend of the stars, before it and after it
TREND_SHRINKAGE = 100.0  # reviews' worth of belief that a period is as kind as any other
FEW_RATED = 10  # reviews with stars below which the biases are worth what they say


@dataclasses.dataclass(frozen=True)
class FittedReviews:
    """The n reviews that a model is fitted on, and what they say about customers, products and time.

    What ends in `without_self` is worked out for each review without that review, since in training the review is what
    must be predicted.
    """

    customer: Rows  # [n] customer rows
    product: Rows  # [n] product rows
    value: Floats  # [n] stars in model units, 0 where there are none
    rated: Floats  # [n] 1 where there are stars, else 0
    weight: Floats  # [n] what each review counts in the retrieval loss: 1, or as the counts of the source say
    period: Rows  # [n] period of `popularity` in which the review was written
    log_share_without_self: Floats  # [n] log share of the review's product in its period
    trend_without_self: Floats  # [n] how much kinder the period was than others, in model units
    timeline_slot: Array  # [n] where the review stands in the items of `timelines`
    timelines: Lists  # [C + 1] products of each customer in the order of time; no items where no tower reads them
    popularity: Popularity
    trend: Floats  # [T] how much kinder each period was than others, in model units; 0 where no trend is used
    customers: Profiles
    products: Profiles
    candidates: Rows  # [M] product rows to retrieve from, ascending
    scale: ModelScale

    def __len__(self) -> int:
        return len(self.customer)

    def with_popularity(self, reviews: Reviews, half_life: float | None) -> FittedReviews:
        """Return these reviews with the popularity of this half-life in days (None: of all time) and without a trend.

        `reviews` are those that were fitted: their times are read.
        """
        popularity = Popularity.of(self.product, reviews.timestamp, len(self.products), half_life)
        return dataclasses.replace(
            self,
            popularity=popularity,
            period=popularity.period(reviews.timestamp),
            log_share_without_self=popularity.log_share_without_self,
            trend_without_self=np.broadcast_to(np.float32(0), self.value.shape),
            trend=np.zeros(popularity.periods, np.float32),
        )

    def with_popularity_now(self, of_all_time: Popularity) -> FittedReviews:
        """Return these reviews where answers as of now read the popularity of all time, not that of the last period."""
        now = dataclasses.replace(self.popularity, log_share_now=of_all_time.log_share_now)
        return dataclasses.replace(self, popularity=now)

    def biases_without_self(self) -> tuple[Floats, Floats]:
        """Return the shrunk biases of each review's customer and product, [n] each, both without the review."""
        sides = (self.customers, self.customer), (self.products, self.product)
        customer, product = (side.biases.without(rows, self.value, self.rated) for side, rows in sides)
        return customer, product

    def bias_scale(self) -> tuple[float, float]:
        """Return the weights of a customer's and a product's shrunk bias that predict the stars best.

        They are the least squares over the reviews with stars, each of them left out of its own biases.
        """
        rated = self.rated > 0
        if rated.sum() < FEW_RATED:
            return 1.0, 1.0
        a = np.stack(self.biases_without_self(), axis=1)[rated].astype(np.float64)
        solved = np.linalg.solve(a.T @ a + 1e-6 * np.eye(2), a.T @ self.value[rated])
        return float(solved[0]), float(solved[1])

    def with_trend(self) -> FittedReviews:
        """Return these reviews with the trend of the stars: what the biases leave of each period, spread over time.

        trend_t = Σ_i w_it · (value_i − weighted biases_i) / (Σ_i w_it + TREND_SHRINKAGE), over reviews with stars,
        where w_it = 2^(−|t − t_i| / TREND_HALF_LIFE). In the last period it is the decayed mean as of the end.
        """
        periods = self.popularity.periods
        if periods < 2:
            return self
        scale, (customer, product) = self.bias_scale(), self.biases_without_self()
        residual = (self.value - scale[0] * customer - scale[1] * product) * self.rated
        kernel = time_kernel(periods, self.popularity.period_days, TREND_HALF_LIFE)
        total, number = (kernel @ np.bincount(self.period, weights, periods) for weights in (residual, self.rated))
        without_self = (total[self.period] - residual) / (number[self.period] - self.rated + TREND_SHRINKAGE)
        trend = (total / (number + TREND_SHRINKAGE)).astype(np.float32)
        return dataclasses.replace(self, trend=trend, trend_without_self=without_self.astype(np.float32))


def fit_reviews(dataset: Dataset, reviews: Reviews, recipe: Recipe) -> FittedReviews:
    """Arrange the reviews of a dataset for training: biases, histories, popularity of all time, no trend.

    Histories longer than the recipe's `history_cap` are cut at random, from the recipe's seed.
    """
    rng = np.random.default_rng([recipe.seed, 1])
    scale = ModelScale.of(reviews.stars, dataset.info.stars)
    value, rated = scale.to_model(reviews.stars), compact((~np.isnan(reviews.stars)).astype(np.float32))
    tables = (dataset.customers, dataset.products)
    rows = (reviews.customer, reviews.product)
    biases = [
        Biases.of(side_rows, value, rated, table.num_rows, shrinkage)
        for side_rows, table, shrinkage in zip(
            rows, tables, (CUSTOMER_BIAS_SHRINKAGE, PRODUCT_BIAS_SHRINKAGE), strict=True
        )
    ]
    counts = [np.bincount(side_rows, minlength=table.num_rows) for side_rows, table in zip(rows, tables, strict=True)]
    vector_row = [vector_rows(count, recipe.own_vector) for count in counts]
    sides = []
    for side, partner in ((0, 1), (1, 0)):
        residual = (value - biases[partner].all[rows[partner]]) * rated
        grouping = Grouping.capped(rows[side], tables[side].num_rows, recipe.history_cap, rng)
        histories = Histories.of(grouping, rows[partner], vector_row[partner], residual, rated)
        attributes = Attributes.of(tables[side])
        sides.append(Profiles(counts[side], vector_row[side], biases[side], histories, attributes))
    size = tables[1].num_rows
    ids_only = recipe.features == "ids"
    popularity = (
        Popularity.of_equal_products(len(value), size) if ids_only else Popularity.of_all_time(reviews.product, size)
    )
    timed = recipe.history != "bag" or (recipe.memory and dataset.has_time)
    timelines, timeline_slot = timelines_of(reviews, tables[0].num_rows, timed)
    return FittedReviews(
        customer=reviews.customer,
        product=reviews.product,
        value=value,
        rated=rated,
        weight=np.broadcast_to(np.float32(1), value.shape) if reviews.weight is None else reviews.weight,
        period=popularity.period(reviews.timestamp),
        log_share_without_self=popularity.log_share_without_self,
        trend_without_self=np.broadcast_to(np.float32(0), value.shape),
        timeline_slot=timeline_slot,
        timelines=timelines,
        popularity=popularity,
        trend=np.zeros(1, np.float32),
        customers=sides[0],
        products=sides[1],
        candidates=dataset.candidates(sides[1].counts),
        scale=scale,
    )


def vector_rows(counts: Ints, least: int) -> Rows:
    """Number the rows [R + 1] that have at least so many reviews from 1 on; 0 for all others, the unknown one too."""
    own = counts >= max(least, 1)
    own[0] = False
    return np.where(own, np.cumsum(own), 0).astype(np.int32)


def timelines_of(reviews: Reviews, customers: int, wanted: bool) -> tuple[Lists, Array]:
    """List the products of each customer in the order of time, equal times by product row.

    `customers` is C + 1, the number of customer rows. Returns the lists [C + 1] and where each review [n] stands in
    their items; lists without items where they are not `wanted`.
    """
    if not wanted:
        return Lists.empty(customers), np.broadcast_to(np.int32(0), len(reviews))
    order = np.lexsort((reviews.product, reviews.timestamp, reviews.customer))
    slot = np.empty(len(order), positions(len(order)))
    slot[order] = np.arange(len(order))
    offsets = offsets_of(np.bincount(reviews.customer, minlength=customers))
    return Lists(offsets, reviews.product[order].astype(np.int32)), slot
