"""The last products of customers before their reviews, and what a memory of what followed what says of them."""

from __future__ import annotations

import numpy as np

from amzrec.arrays import Array, Doubles, Floats, Ints, Rows, ranges
from amzrec.features.columns import PerQuery, QueryVotes, RecentColumns
from amzrec.features.fitted import FittedReviews
from amzrec.features.memory import CURVE, LEARNED_WITH, SHRINK, WINDOW, of_order

RECENT_PRODUCTS = 20  # of a customer, that a tower reads in their order
DENSE = 1 << 19  # sums that are made in one table


def recent_columns(
    fitted: FittedReviews, customer: Rows, end: Ints, last: int, known: Floats | None = None
) -> RecentColumns:
    """Look up the `last` products of customers [B] that stand in their timelines before the slots `end` [B].

    A customer whose `known` [B] is 0 has none.
    """
    slot = np.maximum(fitted.timelines.offsets[customer], end - last)[:, None] + np.arange(last)
    present = slot < end[:, None]
    if known is not None:
        present &= (known > 0)[:, None]
    items = fitted.timelines.items
    age = np.where(present, end[:, None] - 1 - slot, 0)
    return RecentColumns(items[np.where(present, slot, 0)].astype(np.int64), present, age)


class OrderVotes:
    """Adds up the votes of the last products before each review of a step."""

    def __init__(self, fitted: FittedReviews) -> None:
        self.memory = of_order(fitted.timelines, len(fitted.products)).scaled(LEARNED_WITH)
        neighbours = self.memory.neighbours
        self.size = len(fitted.products)
        self.pairs = neighbours.owners.astype(np.int64) * self.size + neighbours.items  # ascending
        self.rarity = 1 / np.sqrt(fitted.products.counts + SHRINK)
        self.fades = self.memory.fade ** np.arange(self.memory.last)

    def of(self, recent: RecentColumns, target: Rows, candidate_of_product: Ints, candidates: int) -> QueryVotes:
        """Return the votes of the last products before each review [B], whose product is `target` [B].

        `candidate_of_product` [N + 1] is where each product stands among the M `candidates` of the step, below 0 for
        none.
        """
        query, slot = np.nonzero(recent.present & (recent.age < self.memory.last))
        voter, age = recent.products[query, slot], recent.age[query, slot]
        fade = self.fades[age]
        neighbours = self.memory.neighbours
        begin, end = neighbours.offsets[voter], neighbours.offsets[voter + 1]
        place = ranges(begin, end)
        candidate = candidate_of_product[neighbours.items[place]]
        owner, weight = np.repeat(query, end - begin), self.memory.weights[place] * np.repeat(fade, end - begin)
        there = candidate >= 0
        listed, sums = added_up(owner[there], candidate[there], weight[there], (len(target), candidates))
        votes = self.memory.worth(sums)
        highest = np.zeros(len(target), np.float32)
        filled = np.diff(listed.splits) > 0
        highest[filled] = np.maximum.reduceat(votes, listed.splits[:-1][filled]) if len(votes) else 0
        own = np.bincount(query, fade * self.without_own(voter, target[query], age), len(target))
        return QueryVotes(listed, votes, highest, self.memory.worth(own))

    def without_own(self, voter: Ints, target: Rows, age: Ints) -> Doubles:
        """Return the weights [h] of pairs without the one time that the voter stood `age` products before its target.

        That is what the review adds to the memory: 1 / distance within the window, over the root of both counts.
        """
        wanted = voter * self.size + target
        place = np.minimum(np.searchsorted(self.pairs, wanted), max(len(self.pairs) - 1, 0))
        kept = self.pairs[place] == wanted if len(self.pairs) else np.zeros(len(wanted), np.bool_)
        own = np.where(age < WINDOW, CURVE * self.rarity[voter] * self.rarity[target] / (age + 1), 0)
        weight = self.memory.weights[place] if len(self.pairs) else own
        return np.where(kept, np.maximum(weight - own, 0), 0)


def added_up(owner: Ints, candidate: Ints, weight: Array, shape: tuple[int, int]) -> tuple[PerQuery, Array]:
    """Add up the weights [e] of equal pairs of a query, `owner`, and a candidate; `shape` is (Q, M).

    `owner` [e] ascends. Returns the pairs, sorted, and their sums.
    """
    queries, candidates = shape
    rows = max(1, DENSE // max(candidates, 1))  # added up in tables of so many queries: faster than to sort
    pairs, sums = [np.zeros(0, np.int64)], list[Array]([np.zeros(0)])
    for start in range(0, queries, rows):
        low, high = np.searchsorted(owner, [start, start + rows])
        table = np.bincount((owner[low:high] - start) * candidates + candidate[low:high], weight[low:high])
        filled = np.flatnonzero(table)
        pairs.append(filled + start * candidates)
        sums.append(table[filled])
    pair = np.concatenate(pairs)
    return PerQuery.of(pair // candidates, pair % candidates, queries), np.concatenate(sums)
