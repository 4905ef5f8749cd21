"""The reviews of a run after an update: the lists of all customers, and what changed in them."""

from __future__ import annotations

import dataclasses

import numpy as np

from amzrec.arrays import Array, Bools, Doubles, Floats, Ints, Lists, Rows, offsets_of, ranges
from amzrec.renewal.arrivals import Arrivals, newer
from amzrec.store.times import NO_TIME
from amzrec.store.vectors import Vectors

TRAIN = 0  # the part that new reviews are of


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

    def take(self, index: Array) -> Entries:
        """Return the reviews at these positions, or under this mask."""
        return Entries(*(getattr(self, field.name)[index] for field in dataclasses.fields(self)))

    def joined(self, other: Entries) -> Entries:
        """Return these reviews, then the others."""
        names = [field.name for field in dataclasses.fields(self)]
        return Entries(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))


@dataclasses.dataclass(frozen=True)
class Ledger:
    """All reviews after an update, listed by customer and time, and how they differ from those before."""

    products: Lists  # [C + 1] product rows of each customer, as Vectors.seen
    entries: Entries  # [S] in the order of `products.items`
    timed: bool  # whether the run reads times
    added: Entries  # reviews that are new, or replace others
    removed: Entries  # reviews that were replaced
    touched: Rows  # customers whose reviews changed, ascending
    known: int  # reviews that the run had already, or later ones in their place

    @property
    def replaced(self) -> int:
        """Return how many reviews were replaced."""
        return len(self.removed)

    def fitted(self, tags: tuple[int, ...]) -> Bools:
        """Tell which reviews [S] vectors are computed from: those of these parts."""
        of_parts: Bools = np.isin(self.entries.part, tags)
        return of_parts

    @classmethod
    def of(cls, vectors: Vectors, arrivals: Arrivals) -> Ledger:
        """Settle new reviews with those that a run has: each pair of customer and product stays once, the later one."""
        lists, timed = vectors.seen, vectors.seen_time is not None
        size, before = len(arrivals.product_ids), len(lists)
        touched = np.unique(arrivals.customer)
        of_known = touched[touched < before]
        slots = lists.slots(of_known)
        owner = np.repeat(of_known, lists.lengths[of_known]).astype(np.int32)
        old = entries_at(vectors, slots, owner)
        keys = old.customer.astype(np.int64) * size + old.product
        wanted = arrivals.customer.astype(np.int64) * size + arrivals.product
        order = np.argsort(keys, kind="stable")
        place = np.searchsorted(keys, wanted, sorter=order)
        inside = place < len(keys)
        at = order[np.where(inside, place, 0)] if len(keys) else np.zeros(len(wanted), np.int64)
        there = inside & (keys[at] == wanted) if len(keys) else np.zeros(len(wanted), np.bool_)
        new = ~there
        pairs = at[there]
        better = newer(
            arrivals.stars[there], arrivals.time[there], old.stars[pairs], old.time[pairs] if timed else None
        )
        new[there] = better
        parts = np.full(len(arrivals), TRAIN, np.uint8)
        added = Entries(arrivals.customer, arrivals.product, arrivals.stars, arrivals.time, parts).take(new)
        stays = np.ones(len(old), np.bool_)
        stays[pairs[better]] = False
        changed = np.unique(added.customer)
        moved = np.isin(owner, changed)
        parted = old.take(stays & moved).joined(added)
        parted = parted.take(np.lexsort((parted.product, parted.time, parted.customer)))
        lengths = np.zeros(max(before, len(arrivals.customer_ids)), np.int64)
        lengths[:before] = lists.lengths
        lengths[changed] = np.bincount(parted.customer, minlength=len(lengths))[changed]
        whole = spliced(vectors, parted, changed, offsets_of(lengths))
        return cls(
            Lists(offsets_of(lengths), whole.product),
            whole,
            timed,
            added,
            old.take(pairs[better]),
            changed.astype(np.int32),
            len(arrivals) - len(added),
        )

    def arrays(self) -> dict[str, Array]:
        """Return the fields of Vectors that list the reviews."""
        entries = self.entries
        found: dict[str, Array] = {
            "seen_offsets": self.products.offsets,
            "seen_product": entries.product,
            "seen_stars": entries.stars,
            "seen_part": entries.part,
        }
        return found | ({"seen_time": entries.time} if self.timed else {})


def entries_at(vectors: Vectors, slots: Array | slice, owner: Rows) -> Entries:
    """Return the reviews of a run at these slots [n] of its lists, which are those of the customers `owner` [n]."""
    time = np.full(len(owner), NO_TIME) if vectors.seen_time is None else vectors.seen_time[slots]
    return Entries(owner, vectors.seen_product[slots], vectors.seen_stars[slots], time, vectors.seen_part[slots])


def all_entries(vectors: Vectors) -> Entries:
    """Return all reviews of a run, in the order of its lists."""
    return entries_at(vectors, slice(None), vectors.seen.owners.astype(np.int32))


def spliced(vectors: Vectors, parted: Entries, changed: Rows, offsets: Ints) -> Entries:
    """Put the reviews of the customers that changed, sorted, between those of all others; `offsets` [C + 2] are new."""
    old = all_entries(vectors)
    stays = np.ones(len(offsets) - 1, np.bool_)
    stays[changed] = False
    kept = np.flatnonzero(stays[old.customer])
    rows = np.flatnonzero(stays[: len(vectors.seen)])
    before = vectors.seen.offsets
    target = np.concatenate(
        [
            ranges(offsets[rows], offsets[rows] + before[rows + 1] - before[rows]),
            ranges(offsets[changed], offsets[changed + 1]),
        ]
    )
    columns = []
    for field in dataclasses.fields(Entries):
        of_old, of_changed = getattr(old, field.name), getattr(parted, field.name)
        column = np.empty(offsets[-1], of_old.dtype)
        column[target[: len(kept)]] = of_old[kept]
        column[target[len(kept) :]] = of_changed
        columns.append(column)
    return Entries(*columns)


def shrunk(rows: Rows, stars: Floats, mean: float, size: int, shrinkage: float) -> Doubles:
    """Return the shrunk mean of stars − mean of each row, [size]: sum / (reviews with stars + shrinkage)."""
    rated = ~np.isnan(stars)
    total = np.bincount(rows[rated], stars[rated].astype(np.float64) - mean, size)
    bias: Doubles = total / (np.bincount(rows[rated], minlength=size) + shrinkage)
    return bias
