"""Exact ranks of known products among all candidates, in blocks of scores, and the best of each block."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from amzrec.metrics import CUT, MISS

BLOCK_BYTES = 32 << 20  # of scores held at once
MANY = 24  # positives of one query from which sorting its scores once beats counting for each

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Lists:
    """One list of candidate positions per customer: `items[offsets[g] : offsets[g + 1]]`."""

    offsets: Ints  # [G + 1]
    items: Ints  # positions among the candidates

    @classmethod
    def of(cls, owner: Array, items: Array, owners: int) -> Lists:
        """From pairs in any order; within a list the order of the pairs is kept."""
        order = np.argsort(owner, kind="stable")
        offsets = np.zeros(owners + 1, np.int64)
        np.cumsum(np.bincount(owner, minlength=owners), out=offsets[1:])
        return cls(offsets, items[order].astype(np.int64))

    def __getitem__(self, owner: int) -> Ints:
        return self.items[self.offsets[owner] : self.offsets[owner + 1]]


@dataclasses.dataclass(frozen=True)
class Ranks:
    """How many candidates stand at or above each positive, ties counted against it, itself not counted."""

    above: Ints  # [T] among all candidates; MISS where the product is none
    above_unseen: Ints  # [T] among those that the customer has not seen
    top: Ints  # [G, k] positions of the best unseen candidates of each customer, -1 where there are fewer


def best(scores: npt.NDArray[np.float32], k: int) -> Ints:
    """Columns [b, k] of the largest scores [b, M], best first, ties by ascending column, -1 where the score is -inf.

    The k-th largest of the maxima over disjoint groups of columns is a lower bound of the k-th largest score, so
    only the few scores that reach it are sorted: one pass over the block instead of a partition of every row.
    """
    lines, width = scores.shape
    top = np.full((lines, k), -1, np.int64)
    groups = max(4 * k, 512)
    if not lines or not width or not k:
        return top
    if width < 4 * groups:
        kept = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        top[:, : kept.shape[1]] = np.where(np.take_along_axis(scores, kept, axis=1) > -np.inf, kept, -1)
        return top
    depth = width // groups
    maxima = scores[:, : groups * depth].reshape(lines, depth, groups).max(axis=1)
    bound = np.partition(maxima, groups - k, axis=1)[:, groups - k]
    for line in range(lines):
        row = scores[line]
        place = np.flatnonzero(row >= max(bound[line], np.finfo(np.float32).min))
        kept = place[np.argsort(-row[place], kind="stable")[:k]]
        top[line, : len(kept)] = kept
    return top


def rank(
    queries: npt.NDArray[np.float32],
    candidates: npt.NDArray[np.float32],
    query_of: Array,
    positives: Lists,
    seen: Lists,
    k: int = CUT,
) -> Ranks:
    """Exact ranks and the k best for G customers over M unique candidates, as if [G, M] scores had been sorted.

    `queries` [U, d], `candidates` [M, d], `query_of` [G] the query of each customer (several may share one),
    `positives` their test products as positions, -1 for a product that is no candidate; `seen` what is removed for
    `above_unseen` and `top`. At most BLOCK_BYTES of scores are held at once.
    """
    above = np.full(len(positives.items), MISS)
    unseen = above.copy()
    top = np.full((len(query_of), k), -1, np.int64)
    by_query = np.argsort(query_of, kind="stable")
    first = np.searchsorted(query_of[by_query], np.arange(len(queries) + 1))
    columns = np.ascontiguousarray(candidates.T)
    step = min(max(1, BLOCK_BYTES // (4 * max(1, len(candidates)))), max(1, len(queries)))
    block = np.empty((step, len(candidates)), np.float32)
    for start in range(0, len(queries), step):
        asked = queries[start : start + step]
        scores = np.matmul(asked, columns, out=block[: len(asked)])  # [b, M]
        alone = []
        for line, row in enumerate(scores):
            customers = by_query[first[start + line] : first[start + line + 1]]
            _count(row, customers, positives, seen, above, unseen)
            if len(customers) == 1:
                alone.append((customers[0], line))
                row[seen[customers[0]]] = -np.inf
            elif len(customers):
                _share(row, customers, seen, top)
        if alone:
            owner, lines = np.array(alone).T
            top[owner] = best(scores if len(lines) == len(scores) else scores[lines], k)
    return Ranks(above, unseen, top)


def _count(
    row: npt.NDArray[np.float32], customers: Ints, positives: Lists, seen: Lists, above: Ints, unseen: Ints
) -> None:
    """Fill the ranks of all positives of the customers that share the scores `row` [M]."""
    begin, end = positives.offsets[customers], positives.offsets[customers + 1]
    total = int((end - begin).sum())
    ordered = np.sort(row) if total > MANY else None
    if len(customers) > 1:
        # all positives of customers without a history are ranked in one go: their seen and unseen ranks are equal
        fresh = seen.offsets[customers] == seen.offsets[customers + 1]
        slots = _slots(begin[fresh], end[fresh])
        above[slots] = unseen[slots] = _above(row, ordered, positives.items[slots])
        customers, begin, end = customers[~fresh], begin[~fresh], end[~fresh]
    for customer, low, high in zip(customers, begin, end, strict=True):
        items = positives.items[low:high]
        found = _above(row, ordered, items)
        above[low:high] = found
        gone = np.sort(row[seen[customer]])
        removed = len(gone) - np.searchsorted(gone, row[items], side="left")
        unseen[low:high] = np.where(items < 0, MISS, np.maximum(found - removed, 0))


def _above(row: npt.NDArray[np.float32], ordered: Array | None, items: Ints) -> Ints:
    """How many scores of `row` [M] reach that of each item, itself left out; MISS for item -1."""
    if ordered is not None:
        found = len(row) - 1 - np.searchsorted(ordered, row[items], side="left")
        return np.where(items < 0, MISS, found)
    return np.array([MISS if i < 0 else int(np.count_nonzero(row >= row[i])) - 1 for i in items], np.int64)


def _slots(begin: Ints, end: Ints) -> Ints:
    """All positions of the ranges begin[i] .. end[i], in order."""
    length = end - begin
    start = np.cumsum(length) - length
    return np.repeat(begin - start, length) + np.arange(length.sum())


def _share(row: npt.NDArray[np.float32], customers: Ints, seen: Lists, top: Ints) -> None:
    """The best unseen candidates of customers that share the scores `row` [M]: one deep list, filtered for each."""
    k = top.shape[1]
    seen_sizes = seen.offsets[customers + 1] - seen.offsets[customers]
    depth = k + int(seen_sizes.max())
    deep = best(row[None, :], min(depth, len(row)))[0]
    deep = deep[deep >= 0]
    top[customers[seen_sizes == 0], : min(k, len(deep))] = deep[:k]
    for customer in customers[seen_sizes > 0]:
        kept = deep[: k + len(seen[customer])]
        kept = kept[~np.isin(kept, seen[customer])][:k]
        top[customer, : len(kept)] = kept
