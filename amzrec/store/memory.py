"""A memory of pairs: what customers have votes for the products that go with it, beside the vectors."""

from __future__ import annotations

import dataclasses

import numpy as np

from amzrec.arrays import Array, Floats, Ints, Lists, Rows, among, offsets_of, ranges

FEW = 64  # products of one history whose lists are cut out one by one
DENSE = 0.25  # votes per product and query from which a row of all products is added up


@dataclasses.dataclass(frozen=True)
class Votes:
    """The products that each query's history votes for, each product once for a query, and how strongly."""

    products: Lists  # Q lists of product rows, ascending
    weights: Floats  # [E] beside the items of `products`

    def __len__(self) -> int:
        return len(self.products)

    def scaled(self, share: float) -> Votes:
        """Return the votes, each times `share`."""
        return Votes(self.products, (self.weights * share).astype(np.float32))

    def take(self, queries: Array) -> Votes:
        """Return the votes of these queries [n], in that order."""
        offsets = self.products.offsets
        return Votes(self.products.take(queries), self.weights[ranges(offsets[queries], offsets[queries + 1])])

    def add(self, scores: Floats, columns: Array) -> None:
        """Add the votes of b queries to their scores [b, M]; columns[row] is where a product stands, -1 for nowhere."""
        line, product = self.products.pairs()
        inside = product < len(columns)
        column = np.where(inside, columns[np.where(inside, product, 0)], -1)
        there = column >= 0
        scores[line[there], column[there]] += self.weights[there]


@dataclasses.dataclass(frozen=True)
class Memory:
    """For each product of a history, the products that it votes for, and how strongly: a sparse [N + 1, N + 1] matrix.

    The sum for product i is Σ_j fade^(products after j in the history) · weight[j, i], over the `last` products of the
    history. The vote is that sum, or with `per_log` above 0 it is per_log · log(1 + sum), so that one strong pair does
    not drown all others. Products of the history itself get no votes, since nobody reviews a product twice. With a fade
    of 1 the order of the history does not matter.
    """

    neighbours: Lists  # [N + 1] lists of product rows
    weights: Floats  # [S] beside their items
    fade: float = 1.0
    last: int = 0  # products of a history that vote, the latest; 0: all
    per_log: float = 0.0  # scores per e-fold of 1 + the sum; 0: the sum is the score

    def worth(self, sums: Array) -> Floats:
        """Turn sums [n] into votes."""
        return np.asarray(self.per_log * np.log1p(sums) if self.per_log else sums, np.float32)

    def fades(self, histories: Lists) -> Floats:
        """Weigh the items of histories, which end with the latest: fade^(items after it), [h]."""
        if self.fade == 1:
            return np.ones(len(histories.items), np.float32)
        after = np.repeat(histories.offsets[1:], histories.lengths) - 1 - np.arange(len(histories.items))
        return np.asarray(self.fade**after, np.float32)

    def votes(self, histories: Lists) -> Votes:
        """Add up the votes of the histories of Q queries, in the order of time, the latest last."""
        whole = histories
        if self.last:
            begin = np.maximum(histories.offsets[:-1], histories.offsets[1:] - self.last)
            kept = ranges(begin, histories.offsets[1:])
            histories = Lists(offsets_of(histories.offsets[1:] - begin), histories.items[kept])
        items, size = histories.items.astype(np.int64), len(self.neighbours)
        if len(items) * len(self.weights) > DENSE * len(histories) * size**2:
            return self._dense_votes(histories, whole)
        if len(histories) == 1 and len(items) <= FEW:
            return self._votes_of_one(histories, whole)
        begin, end = self.neighbours.offsets[items], self.neighbours.offsets[items + 1]
        place, length = ranges(begin, end), end - begin
        owner = np.repeat(histories.owners, length)
        key = owner * size + self.neighbours.items[place]
        weight = self.weights[place] * np.repeat(self.fades(histories), length)
        order = np.argsort(key, kind="stable")  # np.unique would import numpy.ma
        key, weight = key[order], weight[order]
        first = np.flatnonzero(np.diff(key, prepend=-1))
        pairs, summed = key[first], np.add.reduceat(weight, first) if len(first) else weight
        others = ~among(pairs, whole.owners * size + whole.items)
        pairs, summed = pairs[others], summed[others]
        offsets = offsets_of(np.bincount(pairs // size, minlength=len(histories)))
        return Votes(Lists(offsets, (pairs % size).astype(np.int32)), self.worth(summed))

    def _votes_of_one(self, history: Lists, whole: Lists) -> Votes:
        """Add up the votes of one short history, with as few calls as can be: the same numbers, in a fifth of the time.

        `whole` is the history with the products that do not vote.
        """
        spans = [self.neighbours.span(item) for item in history.items.tolist()]
        product = np.concatenate([*(self.neighbours.items[span] for span in spans), np.zeros(0, np.int32)])
        weight = np.concatenate([*(self.weights[span] for span in spans), np.zeros(0, np.float32)])
        if self.fade != 1:
            weight *= np.repeat(self.fades(history), [span.stop - span.start for span in spans])
        order = np.argsort(product, kind="stable")
        product, weight = product[order], weight[order]
        new = np.ones(len(product), np.bool_)
        np.not_equal(product[1:], product[:-1], out=new[1:])
        if not new.all():
            first = np.flatnonzero(new)
            product, weight = product[first], np.add.reduceat(weight, first)
        others = ~among(product, whole.items)
        product, weight = product[others], weight[others]
        return Votes(Lists(np.array([0, len(product)]), product), self.worth(weight))

    def _dense_votes(self, histories: Lists, whole: Lists) -> Votes:
        """Add up votes of long histories, which vote for most products: one query after the other, in a row of all.

        `whole` are the histories with the products that do not vote.
        """
        fades, products, weights = self.fades(histories), list[Rows](), list[Floats]()
        for query in range(len(histories)):
            items = histories[query]
            place = self.neighbours.slots(items)
            fade = np.repeat(
                fades[histories.span(query)], self.neighbours.offsets[items + 1] - self.neighbours.offsets[items]
            )
            row = np.bincount(self.neighbours.items[place], self.weights[place] * fade, len(self.neighbours))
            row[whole[query]] = 0
            voted = np.flatnonzero(row)
            products.append(voted.astype(np.int32))
            weights.append(self.worth(row[voted]))
        return Votes(Lists.join(products), np.concatenate([*weights, np.zeros(0, np.float32)]))

    def scaled(self, share: float) -> Memory:
        """Return the memory with every vote times `share`."""
        if self.per_log:
            return dataclasses.replace(self, per_log=self.per_log * share)
        return dataclasses.replace(self, weights=(self.weights * share).astype(np.float32))

    @classmethod
    def of_pairs(cls, voter: Array, product: Array, weight: Array, size: int) -> Memory:
        """Build from aligned triples in any order; `size` is N + 1."""
        order = np.lexsort((product, voter))
        offsets = offsets_of(np.bincount(voter, minlength=size))
        items: Rows = product[order].astype(np.int32)
        return cls(Lists(offsets, items), weight[order].astype(np.float32))


def strongest(group: Array, weight: Array, keep: int) -> Ints:
    """Return the places, ascending, of the `keep` largest weights of each group, of equal ones those that come first.

    `group` [n] ascends, and no `weight` [n] is below 0; they are compared as float32.
    """
    counts = np.bincount(group)
    if not len(group) or counts.max() <= keep:
        return np.arange(len(group))
    # one number for group and weight, larger ones first: the bits of floats from 0 on are in the order of the floats
    key = group.astype(np.int64) << 32 | (0x7FFFFFFF - weight.astype(np.float32).view(np.int32).astype(np.int64))
    ordered, begin = np.sort(key), offsets_of(counts)
    full = np.flatnonzero(counts > keep)
    last = np.full(len(counts), np.iinfo(np.int64).max)
    last[full] = ordered[begin[full] + keep - 1]
    kept = key <= last[group]
    over = np.bincount(group[kept], minlength=len(counts)) - keep  # equal to the last one that is kept
    tied = np.flatnonzero((key == last[group]) & (over[group] > 0))
    if len(tied):
        of_group = np.bincount(group[tied], minlength=len(counts))
        rank = np.arange(len(tied)) - offsets_of(of_group)[group[tied]]
        kept[tied[rank >= (of_group - over)[group[tied]]]] = False
    return np.flatnonzero(kept)
