"""What a model must beat: constants and biases for stars, popularity and decayed popularity for retrieval."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from amzrec.store.dataset import NO_TIME

SHRINK_PRODUCT = 5.0  # reviews' worth of belief in the mean, for products
SHRINK_CUSTOMER = 10.0  # the same for customers
DAY = 86_400.0  # seconds
HALF_LIVES = (7, 14, 30, 60, 90, 180, 365, 730, 1460)  # days that recent popularity chooses from
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


def asked_days(fitted: Array, asked: Array) -> npt.NDArray[np.int64]:
    """Days since 1970 of the unix seconds `asked` [T]; never after the day that follows the latest fitted review.

    From then on nothing new is known, and decay changes no order. NO_TIME means now, which is after the end.
    """
    last = int(fitted.max()) // int(DAY)
    return np.where(asked == NO_TIME, last + 1, np.minimum(asked // int(DAY), last + 1))


def dated_popularity(
    product: Array, timestamp: Array, half_life: float, products: int, days: Array
) -> Callable[[int, int, npt.NDArray[np.float32]], None]:
    """A function (start, stop, scores) that writes popularity as of the begin of days[start:stop] into scores [b, M].

    Only reviews of earlier days count, each half as much per `half_life` days. `product` [n] < `products` = M,
    `timestamp` [n] unix seconds, `days` [U] days since 1970, ascending.
    """
    order = np.argsort(timestamp, kind="stable")
    column, day = product[order], timestamp[order] // int(DAY)

    def fill(start: int, stop: int, scores: npt.NDArray[np.float32]) -> None:
        now = days[start]
        known = np.searchsorted(day, now)
        scores[0] = np.bincount(column[:known], 0.5 ** ((now - day[:known]) / half_life), products)
        for line in range(1, stop - start):
            now, last = days[start + line], days[start + line - 1]
            new = slice(known, np.searchsorted(day, now))
            np.multiply(scores[line - 1], 0.5 ** ((now - last) / half_life), out=scores[line])
            np.add.at(scores[line], column[new], 0.5 ** ((now - day[new]) / half_life))
            known = new.stop

    return fill
