"""A memory of pairs: what customers have votes for the products that go with it, beside the vectors."""

from __future__ import annotations

import dataclasses

import numpy as np

from amzrec.arrays import Array, Floats, Ints, Lists, Rows, offsets_of, ranges


@dataclasses.dataclass(frozen=True)
class Votes:
    """The products that each query's history votes for, each product once for a query, and how strongly."""

    products: Lists  # Q lists of product rows, ascending
    weights: Floats  # [E] beside the items of `products`

    def __len__(self) -> int:
        return len(self.products)


@dataclasses.dataclass(frozen=True)
class Memory:
    """For each product of a history, the products that it votes for, and how strongly: a sparse [N + 1, N + 1] matrix.

    The vote of a history for product i is Σ_j fade^(products after j in the history) · weight[j, i]. With a fade of 1
    the order of the history does not matter.
    """

    neighbours: Lists  # [N + 1] lists of product rows
    weights: Floats  # [S] beside their items
    fade: float = 1.0

    def fades(self, histories: Lists) -> Floats:
        """Weigh the items of histories, which end with the latest: fade^(items after it), [h]."""
        if self.fade == 1:
            return np.ones(len(histories.items), np.float32)
        after = np.repeat(histories.offsets[1:], histories.lengths) - 1 - np.arange(len(histories.items))
        return np.asarray(self.fade**after, np.float32)

    def votes(self, histories: Lists) -> Votes:
        """Add up the votes of the histories of Q queries, in the order of time, the latest last."""
        items, size = histories.items.astype(np.int64), len(self.neighbours)
        begin, end = self.neighbours.offsets[items], self.neighbours.offsets[items + 1]
        place, length = ranges(begin, end), end - begin
        owner = np.repeat(histories.owners, length)
        key = owner * size + self.neighbours.items[place]
        weight = self.weights[place] * np.repeat(self.fades(histories), length)
        pairs, which = np.unique(key, return_inverse=True)
        offsets = offsets_of(np.bincount(pairs // size, minlength=len(histories)))
        summed = np.bincount(which, weight, len(pairs)).astype(np.float32)
        return Votes(Lists(offsets, (pairs % size).astype(np.int32)), summed)

    @classmethod
    def of_pairs(cls, voter: Array, product: Array, weight: Array, size: int, fade: float = 1.0) -> Memory:
        """Build from aligned triples in any order; `size` is N + 1."""
        order = np.lexsort((product, voter))
        offsets = offsets_of(np.bincount(voter, minlength=size))
        items: Rows = product[order].astype(np.int32)
        return cls(Lists(offsets, items), weight[order].astype(np.float32), fade)


def strongest(group: Ints, weight: Floats, keep: int) -> Ints:
    """Places of the `keep` largest weights, by size, of each group [n]."""
    order = np.lexsort((-np.abs(weight), group))
    counts = np.bincount(group)
    rank = np.arange(len(order)) - np.repeat(offsets_of(counts)[:-1], counts)
    return order[rank < keep]
