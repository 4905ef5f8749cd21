"""New reviews in the rows of a run: those of its customers and products, and rows behind them for new ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from amzrec.arrays import Array, Bools, Floats, Ints, Rows
from amzrec.reviews.arrow import array_of
from amzrec.store.dataset import PARTS, Dataset, Reviews
from amzrec.store.strings import Strings
from amzrec.store.times import NO_TIME
from amzrec.store.vectors import Vectors


@dataclasses.dataclass(frozen=True)
class Arrivals:
    """n new reviews, one per customer and product, in the rows of a run and of what is new to it."""

    customer: Rows  # [n] from C + 1 on: new to the run
    product: Rows  # [n] from N + 1 on: new to the run
    stars: Floats  # [n] on the scale of the run, NaN for none
    time: Ints  # [n] unix seconds; NO_TIME in a run without times
    customer_ids: Strings  # of the run and of the new customers
    product_ids: Strings  # of the run and of the new products
    new_products: pa.Table  # product_id, title and features of the new products, in the order of their rows
    undated: int = 0  # reviews without a time, which count as written at the latest time known
    off_scale: int = 0  # reviews with stars beyond the scale of the run, which count as its end

    def __len__(self) -> int:
        return len(self.customer)

    @classmethod
    def of(cls, vectors: Vectors, dataset: Dataset) -> Arrivals:
        """Find the customers and products of a dataset's reviews in a run, by id; products also by exact title."""
        reviews = Reviews.concat([getattr(dataset, part) for part in PARTS])
        ids = dataset.customers["customer_id"], dataset.products["product_id"]
        customer, customer_ids, _ = joined(vectors.customer_ids, ids[0], reviews.customer)
        product, product_ids, new = joined(vectors.product_ids, ids[1], reviews.product, vectors.titles)
        time, undated = dated(vectors, reviews.timestamp)
        stars, off_scale = on_scale(vectors, reviews.stars)
        latest = last_of_pairs(customer, product, len(product_ids), time, stars)
        return cls(
            customer[latest].astype(np.int32),
            product[latest].astype(np.int32),
            stars[latest],
            time[latest],
            customer_ids,
            product_ids,
            dataset.products.select(["product_id", "title", "features"]).take(array_of(new)),
            undated,
            off_scale,
        )


def joined(
    known: Strings, ids: pa.ChunkedArray, rows: Rows, titles: Strings | None = None
) -> tuple[Ints, Strings, Ints]:
    """Turn rows [n] of a dataset into rows of a run, and append to its strings the ids that it does not have.

    `ids` are those of the dataset by row; an id that the run does not have may be one of its `titles`. Returns the rows
    of the run [n], its strings grown, and which rows of the dataset are new.
    """
    used = np.unique(rows).astype(np.int64)
    wanted = pc.cast(ids.take(array_of(used)).combine_chunks(), pa.large_binary())
    wanted = wanted.chunk(0) if isinstance(wanted, pa.ChunkedArray) else wanted
    found = known.rows_of(wanted)
    if titles is not None and (missing := np.flatnonzero(found < 0)).size:
        found[missing] = titles.rows_of(wanted.take(array_of(missing)))
    is_new = found < 1  # row 0 is the unknown one
    found[is_new] = len(known) + np.arange(is_new.sum())
    row_of = np.zeros(len(ids), np.int64)
    row_of[used] = found
    return row_of[rows], known.grown(wanted.filter(array_of(is_new))), used[is_new]


def dated(vectors: Vectors, time: Ints) -> tuple[Ints, int]:
    """Return times [n] as a run reads them, and how many were missing: those count as the latest time known.

    A run without times reads none.
    """
    if vectors.seen_time is None:
        return np.full(len(time), NO_TIME), 0
    missing = time == NO_TIME
    if not missing.any():
        return time, 0
    latest = max(int(np.max(vectors.seen_time, initial=NO_TIME)), int(time.max(initial=NO_TIME)))
    return np.where(missing, latest, time), int(missing.sum())


def on_scale(vectors: Vectors, stars: Floats) -> tuple[Floats, int]:
    """Return stars [n] as a run reads them, and how many lay beyond its scale; a run without stars reads none."""
    head = vectors.head
    if head.mean is None:
        return np.full(len(stars), np.nan, np.float32), 0
    beyond = (stars < head.low) | (stars > head.high)
    return np.clip(stars, head.low, head.high).astype(np.float32), int(beyond.sum())


def last_of_pairs(customer: Ints, product: Ints, size: int, time: Ints, stars: Floats) -> Ints:
    """Return the positions of the last review of each pair, of equally late ones that with the most stars.

    Two ids of a source may be one product of the run. `size` is N + 1.
    """
    key = customer * size + product
    order = np.lexsort((np.nan_to_num(stars, nan=-np.inf), time, key))
    last = np.append(key[order][1:] != key[order][:-1], True) if len(order) else np.zeros(0, np.bool_)
    return np.sort(order[last])


def newer(stars: Floats, time: Ints, old_stars: Floats, old_time: Ints | None) -> Bools:
    """Tell which new reviews [n] of known pairs replace the old ones: the later, of equally late the more stars.

    A review without stars replaces none. In a run without times what arrives is later than what is there.
    """
    rated, was_rated = ~np.isnan(stars), ~np.isnan(old_stars)
    if old_time is None:
        later: Array = rated & (stars != old_stars)
    else:
        later = (time > old_time) | (time == old_time) & (stars > old_stars)
    replaces: Bools = np.where(was_rated, rated & later, rated | later)
    return replaces
