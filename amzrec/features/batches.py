"""Fitted rows as arrays: histories of both sides, biases against the global mean, and batches in fresh order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from amzrec.arrays import Floats, Ints, Lists, Rows, offsets_of
from amzrec.config import TrainConfig
from amzrec.evaluation.baselines import DAY
from amzrec.features.popularity import Prior, fit_prior
from amzrec.store.dataset import Dataset, Reviews

SHRINK_CUSTOMER = 10.0  # reviews of the mean that a customer's bias is shrunk by
SHRINK_PRODUCT = 5.0
HELD_OUT = -2  # the edge of a review that is not among the fitted rows


@dataclasses.dataclass(frozen=True)
class Side:
    """What the fitted rows say about each customer (partners: products), or each product (partners: customers).

    `residual` is value − bias of the partner, the bias of the row itself is subtracted where the history is read,
    so that the target pair can be left out exactly. Values are (stars − mean) / unit.
    """

    own: Rows  # [R + 1] the row itself where it has the reviews for a vector of its own, else 0
    counts: Ints  # [R + 1] reviews in the fitted rows
    history: Lists  # partners
    residual: Floats  # [S], 0 where there are no stars
    rated: Floats  # [S] 1 where there are stars, else 0
    total: Floats  # [R + 1] sum of the values of the rated reviews
    number: Floats  # [R + 1] how many are rated
    shrink: float  # reviews
    attributes: Lists  # features and title words, as entries 0 .. n_attributes
    n_attributes: int

    @property
    def bias(self) -> Floats:
        """[R + 1] shrunk mean of the values of each row."""
        return (self.total / (self.number + self.shrink)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Fit:
    """The rows a model is fitted on: n reviews, and both sides' views of them."""

    customer: Rows  # [n]
    product: Rows  # [n]
    value: Floats  # [n] (stars − mean) / unit, 0 where there are none
    rated: Floats  # [n] 1 where there are stars
    customer_edge: Ints  # [n] where this review stands in the customer's history, -1 where the cap left it out
    product_edge: Ints  # [n] likewise in the product's history
    period: Rows  # [n] when it was, as a row of the prior
    own_prior: Floats  # [n] log share of its product in that period, this review left out
    own_trend: Floats  # [n] how much kinder its period was, this review left out
    turn: Ints  # [n] where this review stands in `sequence`
    sequence: Lists  # products of each customer in the order of time; empty without --history sequence
    prior: Prior
    trend: Floats  # [T] what a period adds to the value, 0 where that did not help on valid
    customers: Side
    products: Side
    candidates: Rows  # [M] product rows to retrieve from
    mean: float  # mean stars
    unit: float  # stars per model unit: a quarter of the scale, 1 on the scale 1..5
    low: float
    high: float

    def __len__(self) -> int:
        return len(self.customer)


def fit_rows(dataset: Dataset, reviews: Reviews, config: TrainConfig) -> Fit:
    """Arrange the reviews for training; histories are capped at random, from the seed."""
    cap, least = config.history_cap, 1 if config.shared else max(config.own_vector, 1)
    rated = ~np.isnan(reviews.stars)
    scale = dataset.info.stars
    low, high = (scale.min, scale.max) if scale else (1.0, 5.0)
    unit = (high - low) / 4 or 1.0
    mean = float(reviews.stars[rated].mean(dtype=np.float64)) if rated.any() else (low + high) / 2
    value = np.where(rated, (reviews.stars - mean) / unit, 0).astype(np.float32)
    number = rated.astype(np.float32)
    rng = np.random.default_rng([config.seed, 1])
    sizes = (dataset.customers.num_rows, dataset.products.num_rows)
    keys = (reviews.customer, reviews.product)
    totals = [np.bincount(key, value, size).astype(np.float32) for key, size in zip(keys, sizes, strict=True)]
    numbers = [np.bincount(key, number, size).astype(np.float32) for key, size in zip(keys, sizes, strict=True)]
    shrinks = (SHRINK_CUSTOMER, SHRINK_PRODUCT)
    tables = (dataset.customers, dataset.products)
    sides, edges = [], []
    for own, other in ((0, 1), (1, 0)):
        partner_bias = totals[other] / (numbers[other] + shrinks[other])
        history, edge, order = capped(keys[own], keys[other], sizes[own], cap, rng)
        residual = (value - partner_bias[keys[other]]) * number
        counts = np.bincount(keys[own], minlength=sizes[own])
        attributes, n_attributes = read_attributes(tables[own])
        sides.append(
            Side(
                own=np.where(counts >= least, np.arange(sizes[own]), 0).astype(np.int32),
                counts=counts,
                history=history,
                residual=residual[order].astype(np.float32),
                rated=number[order],
                total=totals[own],
                number=numbers[own],
                shrink=shrinks[own],
                attributes=attributes,
                n_attributes=n_attributes,
            )
        )
        edges.append(edge)
    candidates = dataset.candidates(sides[1].counts)
    prior = fit_prior(reviews.product, reviews.timestamp, sizes[1], None)
    sequence, turn = in_order(reviews, sizes[0]) if config.history == "sequence" else no_order(len(reviews), sizes[0])
    return Fit(
        reviews.customer, reviews.product, value, number, edges[0], edges[1],
        prior.period(reviews.timestamp), prior.own, np.zeros_like(value), turn, sequence, prior,
        np.zeros(1, np.float32),
        sides[0], sides[1], candidates, mean, unit, low, high,
    )  # fmt: skip


def with_prior(fit: Fit, reviews: Reviews, half_life: float | None) -> Fit:
    """The same rows, started from popularity with this half-life in days (None: of all time)."""
    prior = fit_prior(fit.product, reviews.timestamp, len(fit.products.counts), half_life)
    none = np.zeros(len(prior.table), np.float32)
    return dataclasses.replace(
        fit, prior=prior, period=prior.period(reviews.timestamp), own_prior=prior.own, trend=none
    )


def bias_scale(fit: Fit) -> tuple[float, float]:
    """What the shrunk biases of customer and product are worth: least squares, each review left out of its own."""
    rated = fit.rated > 0
    if rated.sum() < 10:
        return 1.0, 1.0
    a = np.stack(biases_without(fit), axis=1)[rated].astype(np.float64)
    solved = np.linalg.solve(a.T @ a + 1e-6 * np.eye(2), a.T @ fit.value[rated])
    return float(solved[0]), float(solved[1])


def biases_without(fit: Fit) -> tuple[Floats, Floats]:
    """[n] shrunk biases of each review's customer and product, the review left out of both."""
    sides = (fit.customers, fit.customer), (fit.products, fit.product)
    first, second = (
        (side.total[rows] - fit.value) / (side.number[rows] - fit.rated + side.shrink) for side, rows in sides
    )
    return first, second


def with_trend(fit: Fit, half_life: float = 180.0, shrink: float = 100.0) -> Fit:
    """The same rows with the trend of the stars: what the biases leave of each period, spread over time both ways.

    trend_t = Σ_i 2^(−|t − t_i| / half_life) · (value_i − biases) / (Σ 2^(…) + shrink), half_life in days, shrink in
    reviews; after the last fitted review it is the decayed mean as of the end.
    """
    edges, periods = fit.prior.edges, len(fit.prior.table)
    if periods < 2:
        return fit
    width = float(edges[1] - edges[0]) / DAY if len(edges) > 1 else 1.0
    scale, (customer, product) = bias_scale(fit), biases_without(fit)
    rest = (fit.value - scale[0] * customer - scale[1] * product) * fit.rated
    kernel = 0.5 ** (np.abs(np.subtract.outer(np.arange(periods), np.arange(periods))) * (width / half_life))
    total, number = (
        kernel @ np.bincount(fit.period, rest, periods),
        kernel @ np.bincount(fit.period, fit.rated, periods),
    )
    own = (total[fit.period] - rest) / (number[fit.period] - fit.rated + shrink)
    trend = (total / (number + shrink)).astype(np.float32)
    return dataclasses.replace(fit, trend=trend, own_trend=own.astype(np.float32))


def capped(own: Rows, other: Rows, size: int, cap: int, rng: np.random.Generator) -> tuple[Lists, Ints, Ints]:
    """Group reviews by `own` with at most `cap` of each, drawn at random.

    Returns the lists of `other`, where each review stands in them (-1: left out), and the reviews in list order.
    """
    shuffled = rng.permutation(len(own))
    order = shuffled[np.argsort(own[shuffled], kind="stable")]
    counts = np.bincount(own, minlength=size)
    first = offsets_of(counts)
    rank = np.arange(len(own)) - first[own[order]]
    order = order[rank < cap]
    offsets = offsets_of(np.minimum(counts, cap))
    edge = np.full(len(own), -1, np.int64)
    edge[order] = np.arange(len(order))
    return Lists(offsets, other[order].astype(np.int32)), edge, order


def in_order(reviews: Reviews, size: int) -> tuple[Lists, Ints]:
    """The products of each customer in the order of time, equal times by row, and where each review stands there."""
    order = np.lexsort((reviews.product, reviews.timestamp, reviews.customer))
    turn = np.empty(len(order), np.int64)
    turn[order] = np.arange(len(order))
    offsets = offsets_of(np.bincount(reviews.customer, minlength=size))
    return Lists(offsets, reviews.product[order].astype(np.int32)), turn


def no_order(reviews: int, size: int) -> tuple[Lists, Ints]:
    """Empty lists for each customer, in which all reviews stand at 0."""
    return Lists.empty(size), np.zeros(reviews, np.int64)


def read_attributes(table: pa.Table, least: int = 2) -> tuple[Lists, int]:
    """Features ("name=value") and title words of each row as small integers; rarer ones than `least` are left out."""
    rows, keys = [], []
    for number, column in enumerate(name for name in ("features", "tokens") if name in table.column_names):
        array = table[column].combine_chunks()
        array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
        lengths = np.diff(array.offsets.to_numpy())
        values = array.flatten()
        codes = values.dictionary_encode().indices.to_numpy() if pa.types.is_string(values.type) else values.to_numpy()
        valid = np.repeat(np.arange(len(array)), lengths)
        rows.append(valid)
        keys.append(codes.astype(np.int64) * 2 + number)
    row, key = (np.concatenate(rows), np.concatenate(keys)) if rows else (np.zeros(0, np.int64), np.zeros(0, np.int64))
    pairs = np.unique(np.stack([row, key]), axis=1) if len(row) else np.zeros((2, 0), np.int64)
    _, code, count = np.unique(pairs[1], return_inverse=True, return_counts=True)
    often = count >= least
    renumbered = np.cumsum(often) - 1
    keep = often[code]
    offsets = offsets_of(np.bincount(pairs[0][keep], minlength=table.num_rows))
    return Lists(offsets, renumbered[code[keep]].astype(np.int32)), int(often.sum())


def batch_size(n: int, most: int, least_steps: int = 10) -> tuple[int, int]:
    """Reviews per step and steps per epoch: at most `most`, and `least_steps` steps where there are 256 rows for each.

    Steps are of one size, so that an epoch leaves out fewer than `steps` reviews, other ones each time.
    """
    steps = max(-(-n // most), min(least_steps, -(-n // 256)), 1)
    return n // steps, steps


def positions(fit: Fit, size: int, steps: int, seed: list[int], lists: int = 0) -> Iterator[Ints]:
    """The reviews of `steps` batches of `size`, in a fresh random order.

    `lists`: so many reviews that follow each other are of one customer; 0: no lists.
    """
    rng = np.random.default_rng(seed)
    order = list_order(fit, rng, lists) if lists else rng.permutation(len(fit))
    for step in range(steps):
        yield order[step * size : (step + 1) * size]


def packed(fit: Fit) -> Rows:
    """All COLUMNS of all reviews as one array [n, columns]: a batch is one gather, each review of one cache line.

    Real numbers keep their bits; whole numbers are positions of reviews at most, which 32 bits hold.
    """
    table = np.empty((len(fit), len(COLUMNS)), np.int32)
    for place, name in enumerate(COLUMNS):
        column = getattr(fit, name)
        table[:, place] = column.view(np.int32) if column.dtype == np.float32 else column
    return table


def list_order(fit: Fit, rng: np.random.Generator, size: int) -> Ints:
    """Positions of rated reviews in random lists of `size` of one customer; the rest of each customer is left out."""
    rated = np.flatnonzero(fit.rated > 0)
    customer = fit.customer[rated]
    order = np.lexsort((rng.random(len(rated)), customer))
    counts = np.bincount(customer)
    rank = np.arange(len(rated)) - (np.cumsum(counts) - counts)[customer[order]]
    kept = rated[order][rank < counts[customer[order]] // size * size]
    drawn: Ints = kept.reshape(-1, size)[rng.permutation(len(kept) // size)].reshape(-1)
    return drawn


def held_out(fit: Fit, reviews: Reviews) -> dict[str, npt.NDArray[Any]]:
    """The columns of reviews that are not among the fitted rows, to judge a model by: nothing is left out for them."""
    rated, period = ~np.isnan(reviews.stars), fit.prior.period(reviews.timestamp)
    nowhere = np.full(len(reviews), HELD_OUT, np.int64)
    return {
        "customer": reviews.customer,
        "product": reviews.product,
        "value": np.where(rated, (reviews.stars - fit.mean) / fit.unit, 0).astype(np.float32),
        "rated": rated.astype(np.float32),
        "customer_edge": nowhere,
        "product_edge": nowhere,
        "period": period,
        "own_prior": fit.prior.table[period, reviews.product],
        "own_trend": fit.trend[period],
        "turn": fit.sequence.offsets[reviews.customer + 1],
    }


COLUMNS = {
    "customer": np.int32,
    "product": np.int32,
    "value": np.float32,
    "rated": np.float32,
    "customer_edge": np.int64,
    "product_edge": np.int64,
    "period": np.int32,
    "own_prior": np.float32,
    "own_trend": np.float32,
    "turn": np.int64,
}
