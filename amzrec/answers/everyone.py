"""The best products for everyone: the lists of a range of customers at once, as arrays."""

from __future__ import annotations

import dataclasses

import numpy as np

from amzrec.answers.lists import Wanted
from amzrec.answers.recommender import Recommender
from amzrec.answers.rules import Rules
from amzrec.arrays import Floats, Rows

TOGETHER = 2048  # customers answered at once


@dataclasses.dataclass(frozen=True)
class Block:
    """The recommendations for some customers, aligned [n]."""

    customer: Rows
    rank: Rows  # from 1
    product: Rows
    score: Floats
    stars: Floats | None  # None where the run knows no stars


class Everyone:
    """The lists that are wanted for all customers of a run."""

    def __init__(self, recommender: Recommender, wanted: Wanted, together: int | None = None) -> None:
        """Take from `wanted` what may be wanted for everyone; AmzrecError where the run cannot follow it.

        Customers are answered in blocks of `together` (default: TOGETHER), on which the last bits of scores depend.
        """
        self.model = recommender.only(wanted.only, wanted.never)
        self.rules = Rules.of(self.model, wanted.sort, wanted.diversify, wanted.at_most)
        self.k, self.include_seen = wanted.k, wanted.include_seen
        self.total = len(self.model.vectors.customer_ids) - 1
        self.starts = range(1, self.total + 1, together or TOGETHER)  # the customer rows at which blocks begin

    def end(self, start: int) -> int:
        """Return the row behind the last customer of the block that begins at row `start`."""
        return min(start + self.starts.step, self.total + 1)

    def block(self, start: int) -> Block:
        """Find the recommendations for the customers of the block that begins at row `start`."""
        return block_of(self.model, range(start, self.end(start)), self.k, self.include_seen, self.rules)


def block_of(model: Recommender, customers: range, k: int, include_seen: bool, rules: Rules) -> Block:
    """Find the recommendations for a range of customer rows."""
    v, rows, seen = model.vectors, slice(customers.start, customers.stop), model.vectors.seen
    hidden = None if include_seen else [seen[row] for row in customers]
    depth = rules.depth(k, len(model.candidates))
    histories = None if v.memory is None else [model.history(row) for row in customers]
    top, scores = model.retrieve(v.retrieval_query[rows], depth, hidden, histories)  # [b, depth]
    owner = np.repeat(np.array(customers, np.int32), depth)
    stars = model.rate(v.rating_query[owner], top.ravel()).reshape(top.shape) if model.has_stars else None
    if depth > k or rules.sort != "retrieval":
        for line in range(len(top)):
            count = int((top[line] > 0).sum())
            mine = None if stars is None else stars[line, :count]
            order = rules.choose(model, top[line, :count], scores[line, :count], mine, k)
            for table in (top, scores) if stars is None else (top, scores, stars):
                table[line, : len(order)] = table[line, order]
            top[line, len(order) :] = 0
    rank = np.broadcast_to(np.arange(1, depth + 1, dtype=np.int32), top.shape)
    kept = (top > 0) & (rank <= k)
    owner = owner.reshape(top.shape)[kept]
    return Block(owner, rank[kept], top[kept], scores[kept], None if stars is None else stars[kept])
