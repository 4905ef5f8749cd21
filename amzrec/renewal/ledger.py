"""The reviews of a run after an update: the lists of all customers, and what changed in them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from amzrec.arrays import Array, Bools, Doubles, Floats, Ints, Lists, Rows, give_back, offsets_of
from amzrec.renewal.arrivals import Arrivals, newer
from amzrec.store.times import NO_TIME
from amzrec.store.vectors import Put, Vectors, as_made

TRAIN = 0  # the part that new reviews are of
AT_ONCE = 1 << 21  # reviews that are settled at a time, some more where one customer has so many
COLUMNS = (("customer", "int32"), ("product", "int32"), ("stars", "float32"), ("time", "int64"), ("part", "uint8"))


@dataclasses.dataclass(frozen=True)
class Entries:
    """n reviews in any order."""

    customer: Rows  # [n]
    product: Rows  # [n]
    stars: Floats  # [n] NaN for none
    time: Ints  # [n] unix seconds, NO_TIME where there is none
    part: Array  # [n] uint8

    def __len__(self) -> int:
        return len(self.customer)

    def take(self, index: Array | slice) -> Entries:
        """Return the reviews at these positions, or under this mask."""
        return Entries(*(getattr(self, field.name)[index] for field in dataclasses.fields(self)))


def joined(parts: Sequence[Entries]) -> Entries:
    """Return the reviews of all parts, one part after the other."""
    columns = (
        np.concatenate([np.zeros(0, dtype), *(getattr(part, name) for part in parts)]) for name, dtype in COLUMNS
    )
    return Entries(*columns)


@dataclasses.dataclass(frozen=True)
class Ledger:
    """All reviews after an update, listed by customer and time, and how they differ from those before."""

    products: Lists  # [C + 1] product rows of each customer, as Vectors.seen
    stars: Floats  # [S] beside `products.items`, as are `time` and `part`
    time: Ints  # [S]
    part: Array  # [S]
    timed: bool  # whether the run reads times
    added: Entries  # reviews that are new, or replace others
    removed: Entries  # reviews that were replaced
    touched: Rows  # customers whose reviews changed, ascending
    known: int  # reviews that the run had already, or later ones in their place

    @property
    def replaced(self) -> int:
        """Return how many reviews were replaced."""
        return len(self.removed)

    @classmethod
    def of(cls, vectors: Vectors, arrivals: Arrivals, put: Put = as_made) -> Ledger:
        """Settle new reviews with those that a run has: each pair of customer and product stays once, the later one.

        Customers are settled some at a time. `put` is given each array of all reviews as soon as it is made.
        """
        timed = vectors.seen_time is not None
        before, size = vectors.seen.lengths, max(len(vectors.seen), len(arrivals.customer_ids))
        by_customer = np.argsort(arrivals.customer, kind="stable")
        new = np.zeros(len(arrivals), np.bool_)
        settled: list[Entries] = []
        removed: list[Entries] = []
        lengths = np.zeros(size, np.int64)
        lengths[: len(before)] = before
        for block in blocks_of(arrivals.customer[by_customer], before):
            mine = by_customer[block]
            reviews, replaced, is_new = settle(vectors, arrivals, mine)
            new[mine] = is_new
            settled.append(reviews)
            removed.append(replaced)
            owners, counts = np.unique(reviews.customer, return_counts=True)
            lengths[owners] = counts
        parts = np.full(len(arrivals), TRAIN, np.uint8)
        added = Entries(arrivals.customer, arrivals.product, arrivals.stars, arrivals.time, parts).take(new)
        changed = np.unique(added.customer).astype(np.int32)
        columns = dict(spliced(vectors, settled, changed, offsets_of(lengths), put))
        return cls(
            Lists(offsets_of(lengths), columns["product"]),
            columns["stars"],
            columns["time"],
            columns["part"],
            timed,
            added,
            joined(removed),
            changed,
            len(arrivals) - len(added),
        )

    def arrays(self) -> dict[str, Array]:
        """Return the fields of Vectors that list the reviews."""
        found: dict[str, Array] = {
            "seen_offsets": self.products.offsets,
            "seen_product": self.products.items,
            "seen_stars": self.stars,
            "seen_part": self.part,
        }
        return found | ({"seen_time": self.time} if self.timed else {})


def blocks_of(customer: Rows, before: Ints) -> list[slice]:
    """Cut arrivals that are sorted by customer [n] where customers end, after some AT_ONCE reviews, old ones included.

    `before` are how many reviews the customers of the run had.
    """
    first = np.flatnonzero(np.diff(customer, prepend=-1))
    owner = customer[first]
    many = np.diff(np.append(first, len(customer)))
    many[owner < len(before)] += before[owner[owner < len(before)]]
    cut = np.append(first[np.flatnonzero(np.diff(np.cumsum(many) // AT_ONCE, prepend=-1))], len(customer))
    return [slice(int(begin), int(end)) for begin, end in itertools.pairwise(cut)]


def settle(vectors: Vectors, arrivals: Arrivals, mine: Ints) -> tuple[Entries, Entries, Bools]:
    """Settle some arrivals, all those of their customers, at these positions [m].

    Returns all reviews of the customers whose reviews changed, sorted by customer, time and product, the reviews that
    were replaced, and which arrivals [m] are new or replace others.
    """
    lists, timed, size = vectors.seen, vectors.seen_time is not None, len(arrivals.product_ids)
    customer, product, stars, time = (
        getattr(arrivals, name)[mine] for name in ("customer", "product", "stars", "time")
    )
    touched = np.unique(customer)
    of_known = touched[touched < len(lists)]
    owner = np.repeat(of_known, lists.offsets[of_known + 1] - lists.offsets[of_known]).astype(np.int32)
    old = entries_at(vectors, lists.slots(of_known), owner)
    keys = old.customer.astype(np.int64) * size + old.product
    wanted = customer.astype(np.int64) * size + product
    order = np.argsort(keys, kind="stable")
    place = np.searchsorted(keys, wanted, sorter=order)
    inside = place < len(keys)
    at = order[np.where(inside, place, 0)] if len(keys) else np.zeros(len(wanted), np.int64)
    there = inside & (keys[at] == wanted) if len(keys) else np.zeros(len(wanted), np.bool_)
    new = ~there
    pairs = at[there]
    better = newer(stars[there], time[there], old.stars[pairs], old.time[pairs] if timed else None)
    new[there] = better
    added = Entries(customer, product, stars, time, np.full(len(mine), TRAIN, np.uint8)).take(new)
    stays = np.ones(len(old), np.bool_)
    stays[pairs[better]] = False
    moved = np.isin(owner, np.unique(added.customer))
    reviews = joined([old.take(stays & moved), added])
    reviews = reviews.take(np.lexsort((reviews.product, reviews.time, reviews.customer)))
    return reviews, old.take(pairs[better]), new


def entries_at(vectors: Vectors, slots: Array | slice, owner: Rows) -> Entries:
    """Return the reviews of a run at these slots [n] of its lists, which are those of the customers `owner` [n]."""
    columns: list[Array] = [vectors.seen_product, vectors.seen_stars, times_of(vectors), vectors.seen_part]
    return Entries(owner, *(column[slots] for column in columns))


def times_of(vectors: Vectors) -> Ints:
    """Return the times [S] of the reviews of a run, as its seen_time; NO_TIME for all where it has none."""
    if vectors.seen_time is not None:
        return vectors.seen_time
    return np.broadcast_to(np.int64(NO_TIME), vectors.seen_product.shape)


def spliced(
    vectors: Vectors, settled: list[Entries], changed: Rows, offsets: Ints, put: Put
) -> Iterator[tuple[str, Array]]:
    """Yield each column [S] of all reviews but their customers, those that are `settled` between those of all others.

    The settled ones are all reviews of the customers that `changed`, by customer; `offsets` [C + 2] are new.
    """
    moved = np.zeros(len(offsets) - 1, np.bool_)
    moved[changed] = True
    was = np.repeat(moved[: len(vectors.seen)], vectors.seen.lengths)  # of the old reviews, those that are settled
    now = np.repeat(moved, np.diff(offsets))
    for name in ("product", "stars", "time", "part"):
        old: Array | None = getattr(vectors, f"seen_{name}")
        if old is None:
            yield name, np.broadcast_to(np.int64(NO_TIME), now.shape)  # as nobody stores it
            continue
        column = np.empty(len(now), old.dtype)
        column[~now] = old[~was]
        column[now] = np.concatenate([np.zeros(0, old.dtype), *(getattr(part, name) for part in settled)])
        give_back(old)
        yield name, put(f"seen_{name}", column)


def shrunk(rows: Rows, stars: Floats, mean: float, size: int, shrinkage: float) -> Doubles:
    """Return the shrunk mean of stars − mean of each row, [size]: sum / (reviews with stars + shrinkage)."""
    total, rated = np.zeros(size), np.zeros(size)
    for start in range(0, len(rows), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        there = ~np.isnan(stars[part])
        np.add.at(total, rows[part][there], stars[part][there].astype(np.float64) - mean)
        np.add.at(rated, rows[part][there], 1.0)
    return total / (rated + shrinkage)
