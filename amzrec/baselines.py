"""What a model must beat: constants and biases for stars, popularity and decayed popularity for retrieval."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

SHRINK_PRODUCT = 5.0  # reviews' worth of belief in the mean, for products
SHRINK_CUSTOMER = 10.0  # the same for customers
DAY = 86_400.0  # seconds
HALF_LIVES = (7, 14, 30, 60, 90, 180, 365, 730, 1460)  # days that recent popularity chooses from
MOMENTS = 500  # most dates that popularity is computed as of
HALF_LIFE = 90  # days, where there is no valid part to choose on

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Biases:
    """stars(c, p) = mean + product[p] + customer[c], from shrunk means; row 0, the unknown, has none."""

    mean: float
    product: Doubles  # [N + 1] stars
    customer: Doubles  # [C + 1] stars, what is left after the product


def fit_biases(customer: Array, product: Array, stars: Array, customers: int, products: int) -> Biases:
    """From aligned reviews [n], NaN stars left out: sum / (count + shrinkage), products first, then customers.

    `customers`, `products`: table sizes with row 0. Without any stars the mean is NaN and the biases are 0.
    """
    rated = ~np.isnan(stars)
    c, p, s = customer[rated], product[rated], stars[rated].astype(np.float64)
    mean = float(s.mean()) if len(s) else float("nan")
    by_product = np.bincount(p, s - mean, products) / (np.bincount(p, minlength=products) + SHRINK_PRODUCT)
    rest = np.bincount(c, s - mean - by_product[p], customers)
    by_customer = rest / (np.bincount(c, minlength=customers) + SHRINK_CUSTOMER)
    by_product[0] = by_customer[0] = 0.0
    return Biases(mean, by_product, by_customer)


def popularity(product: Array, products: int) -> npt.NDArray[np.int64]:
    """Reviews per product row, [products]."""
    return np.bincount(product, minlength=products)


def recent_popularity(product: Array, timestamp: Array, half_life: float, products: int) -> Doubles:
    """Reviews per product row [products], each worth half as much per `half_life` days before the latest one."""
    age = (timestamp.max() - timestamp) / (half_life * DAY)
    weights = np.exp2(-age)
    return np.asarray(np.bincount(product, weights, products), np.float64)


def moments(timestamp: Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """When it was asked: up to MOMENTS dates (unix seconds, ascending), and the one of each time [n].

    Days, or longer stretches where there are more days than that; the date is the start of the stretch, so that
    nothing as of it is from later than the time itself.
    """
    start = int(timestamp.min())
    width = max(DAY, (int(timestamp.max()) - start + 1) / MOMENTS)
    stretch, of = np.unique(((timestamp - start) // width).astype(np.int64), return_inverse=True)
    return (start + stretch * width).astype(np.int64), of


def dated_popularity(
    product: Array, timestamp: Array, moments: Array, half_life: float, products: int
) -> Iterator[Doubles]:
    """Reviews per product row [products] before each of the ascending moments, decayed with this half-life in days."""
    order = np.argsort(timestamp, kind="stable")
    ends = np.searchsorted(timestamp[order], moments, side="left")
    score, done, last = np.zeros(products), 0, moments[0] if len(moments) else 0
    for moment, end in zip(moments, ends, strict=True):
        score = score * 0.5 ** ((moment - last) / (half_life * DAY))
        fresh = order[done:end]
        score += np.bincount(product[fresh], 0.5 ** ((moment - timestamp[fresh]) / (half_life * DAY)), products)
        done, last = end, moment
        yield score
