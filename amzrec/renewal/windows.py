"""A dataset cut by time: what was known before a moment, and what came between two moments."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pyarrow as pa

from amzrec.arrays import Ints, Rows
from amzrec.errors import AmzrecError
from amzrec.reviews.arrow import array_of
from amzrec.store.dataset import PARTS, Counts, Dataset, Reviews
from amzrec.store.times import DAY, NO_TIME

SECONDS = {"h": 3600, "d": int(DAY), "w": 7 * int(DAY)}
VALID = 0.1  # latest share of what is trained on that chooses epochs


def seconds_of(every: str) -> int:
    """Read a length of time, such as 7d, 12h or 4w, as seconds; AmzrecError for another text."""
    found = re.fullmatch(r"([1-9]\d{0,5})([hdw])", every.strip())
    if not found:
        raise AmzrecError(f"--every is {every!r}; allowed: a number of hours, days or weeks, such as 12h, 7d or 4w")
    return int(found[1]) * SECONDS[found[2]]


def edges(reviews: Reviews, every: int, last: int) -> Ints:
    """Return the moments [last + 1], in unix seconds, between which the last windows of `every` seconds lie.

    The last one is the moment after the latest review. Raises AmzrecError where a review has no time, and where none
    is left before the first window.
    """
    missing = int((reviews.timestamp == NO_TIME).sum())
    if missing:
        raise AmzrecError(
            f"backtest needs the time of every review: {missing:,} of {len(reviews):,} have none. "
            "Name a source with timestamps (--columns …,timestamp=COLUMN)"
        )
    end = int(reviews.timestamp.max()) + 1
    found = end - every * np.arange(last, -1, -1, dtype=np.int64)
    if not (reviews.timestamp < found[0]).any():
        raise AmzrecError(
            f"the reviews span {(end - int(reviews.timestamp.min())) / DAY:,.1f} days, so that {last} windows of "
            f"{every / DAY:g} days leave nothing to train on before them: lower --last or --every"
        )
    return found


def all_reviews(dataset: Dataset) -> Reviews:
    """Return the reviews of all parts."""
    return Reviews.concat([getattr(dataset, part) for part in PARTS])


def between(dataset: Dataset, reviews: Reviews, start: int, stop: int) -> Dataset:
    """Return a dataset whose train reviews are those from `start` until before `stop`, in unix seconds."""
    found = Dataset(dataset.path, dataset.info, dataset.customers, dataset.products)
    return with_parts(found, reviews.take((reviews.timestamp >= start) & (reviews.timestamp < stop)))


def before(dataset: Dataset, reviews: Reviews, moment: int) -> Dataset:
    """Return a dataset as it would have been prepared before a moment: it knows nobody and nothing that came later.

    Its valid part is the latest VALID of the reviews, as after --split temporal --test 0.
    """
    early = reviews.take(reviews.timestamp < moment)
    ordered = np.sort(early.timestamp)
    later = early.timestamp >= ordered[min(int(len(ordered) * (1 - VALID)), len(ordered) - 1)]
    if later.all():
        later[:] = False
    tables, rows = [], []
    sides = ((dataset.customers, "customer_id", early.customer), (dataset.products, "product_id", early.product))
    for table, name, row in sides:
        known, row_of = numbered(table, name, row, row[~later])
        tables.append(known)
        rows.append(row_of[row].astype(np.int32))
    early = dataclasses.replace(early, customer=rows[0], product=rows[1])
    protocol = dataclasses.replace(dataset.protocol, split="temporal", test=0.0, valid=VALID)
    counts = Counts(read=len(early), kept=len(early), train=int((~later).sum()), valid=int(later.sum()))
    info = dataclasses.replace(dataset.info, protocol=protocol, counts=counts, checksums={}, identity="")
    return with_parts(Dataset(dataset.path, info, *tables), early.take(~later), early.take(later))


def numbered(table: pa.Table, name: str, every: Rows, train: Rows) -> tuple[pa.Table, Rows]:
    """Return the rows of a table that have reviews, by descending count in train, ties by id, and where each went.

    `every` are the rows of all reviews, `train` those of the train reviews; row 0 stays.
    """
    counts = np.bincount(train, minlength=table.num_rows)
    used = np.unique(every)
    used = used[used > 0]
    ids = np.array(table[name].take(array_of(used)).to_pylist(), object)
    kept = np.concatenate([[0], used[np.lexsort((ids, -counts[used]))]]).astype(np.int64)
    row_of = np.zeros(table.num_rows, np.int32)
    row_of[kept] = np.arange(len(kept), dtype=np.int32)
    known = table.take(array_of(kept))
    columns = {"row": array_of(np.arange(len(kept), dtype=np.int32)), "count": array_of(counts[kept].astype(np.int64))}
    for column, values in columns.items():
        known = known.set_column(known.column_names.index(column), column, values)
    return known, row_of


def with_parts(dataset: Dataset, train: Reviews, valid: Reviews | None = None) -> Dataset:
    """Give a dataset in memory its reviews; it has no test reviews."""
    nothing = train.take(np.zeros(0, np.int64))
    dataset.__dict__.update(train=train, valid=nothing if valid is None else valid, test=nothing)
    return dataset
