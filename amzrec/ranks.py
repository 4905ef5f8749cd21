"""Exact ranks of known products among all candidates, in blocks of scores, and the best of each block."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from amzrec.metrics import CUT, MISS

BLOCK_BYTES = 32 << 20  # of scores held at once
MANY = 24  # positives of one query from which sorting its scores once beats counting for each

PAIRS = 4_000_000  # cells of customers times products that are looked at together
TIED = 64  # times k scores of a line that reach its bound: more are ties
LOWEST = np.finfo(np.float32).min

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
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


def best(scores: Floats, k: int) -> Ints:
    """Columns [b, k] of the largest scores [b, M], best first, ties by ascending column, -1 where the score is -inf.

    The k-th largest of the maxima over disjoint groups of columns is a lower bound of the k-th largest score, so
    only the few scores that reach it are sorted: two passes over the block instead of a partition of every row.
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
    reached = scores >= np.maximum(bound, LOWEST)[:, None]
    if np.count_nonzero(reached) > TIED * k * lines:
        for number, row in enumerate(scores):  # many equal scores: a line at a time, so that memory stays bounded
            column = np.flatnonzero(reached[number])
            ordered = column[np.argsort(-row[column], kind="stable")[:k]]
            top[number, : len(ordered)] = ordered
        return top
    line, column = np.divmod(np.flatnonzero(reached), width)
    order = np.lexsort((-scores[line, column], line))
    first = np.searchsorted(line, np.arange(lines))
    place = np.arange(len(line)) - first[line]  # the lines are sorted already, so places stay within them
    inside = place < k
    top[line[inside], place[inside]] = column[order][inside]
    return top


def rank(
    queries: Floats,
    candidates: Floats,
    query_of: Array,
    positives: Lists,
    seen: Lists,
    k: int = CUT,
    prior: Floats | None = None,
    period: Array | None = None,
) -> Ranks:
    """Exact ranks and the k best for G customers over M unique candidates, as if [G, M] scores had been sorted.

    `queries` [U, d], `candidates` [M, d], `query_of` [G] the query of each customer (several may share one),
    `positives` their test products as positions, -1 for a product that is no candidate; `seen` what is removed for
    `above_unseen` and `top`. `prior` [T, M] and `period` [U] add prior[period[u]] to the scores of query u: what is
    popular when it was asked. At most BLOCK_BYTES of scores are held at once.
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
        if prior is not None and period is not None:
            scores += prior[period[start : start + step]]
        alone = []
        for line, row in enumerate(scores):
            customers = by_query[first[start + line] : first[start + line + 1]]
            if len(customers) == 1:
                _one(row, int(customers[0]), positives, seen, above, unseen)
                alone.append((customers[0], line))
            elif len(customers):
                _many(row, customers, positives, seen, above, unseen)
                top[customers] = _best_unseen(row, customers, seen, k)
        if alone:
            owner, lines = np.array(alone).T
            top[owner] = best(scores if len(lines) == len(scores) else scores[lines], k)
    return Ranks(above, unseen, top)


def _above(row: Floats, items: Ints, wanted: Floats) -> Ints:
    """How many scores of `row` [M] reach each of `wanted`, the score of `items` itself left out; MISS for item -1."""
    if len(items) > MANY:
        found = len(row) - 1 - np.searchsorted(np.sort(row), wanted, side="left")
    else:
        found = np.array([np.count_nonzero(row >= score) - 1 for score in wanted], np.int64)
    found[items < 0] = MISS
    return found


def _one(row: Floats, customer: int, positives: Lists, seen: Lists, above: Ints, unseen: Ints) -> None:
    """Fill the ranks of one customer from its scores `row` [M], and take what was seen out of `row` for good."""
    mine = slice(positives.offsets[customer], positives.offsets[customer + 1])
    items, gone = positives.items[mine], seen[customer]
    wanted = row[items]
    above[mine] = unseen[mine] = _above(row, items, wanted)
    if len(gone):
        row[gone] = -np.inf
        unseen[mine] = np.maximum(_above(row, items, wanted), 0)


def _many(row: Floats, customers: Ints, positives: Lists, seen: Lists, above: Ints, unseen: Ints) -> None:
    """Fill the ranks of all customers that share the scores `row` [M]: what each has seen is counted and subtracted."""
    slots = _slots(positives.offsets[customers], positives.offsets[customers + 1])
    owner = np.repeat(customers, np.diff(positives.offsets)[customers])
    items = positives.items[slots]
    wanted = row[items]
    above[slots] = found = _above(row, items, wanted)
    sizes = np.diff(seen.offsets)[owner]
    ends = np.cumsum(sizes)
    edges = np.unique(np.searchsorted(ends, np.arange(0, ends[-1] if len(ends) else 0, PAIRS)))
    for low, high in itertools.pairwise([*edges, len(owner)]):
        part = owner[low:high]
        gone = row[seen.items[_slots(seen.offsets[part], seen.offsets[part + 1])]]
        pair = np.repeat(np.arange(low, high), sizes[low:high])
        found[low:high] -= np.bincount(pair - low, gone >= wanted[pair], high - low).astype(np.int64)
    unseen[slots] = np.where(items < 0, MISS, np.maximum(found, 0))


def _best_unseen(row: Floats, customers: Ints, seen: Lists, k: int) -> Ints:
    """The k best [n, k] for customers that share the scores `row` [M]: one deep list, crossed out for each."""
    sizes = np.diff(seen.offsets)[customers]
    deep = best(row[None, :], min(k + int(sizes.max()), len(row)))[0]
    deep = deep[deep >= 0]
    place = np.full(len(row), -1, np.int64)
    place[deep] = np.arange(len(deep))
    top = np.full((len(customers), k), -1, np.int64)
    step = max(1, PAIRS // max(1, len(deep)))
    for start in range(0, len(customers), step):
        part = customers[start : start + step]
        line = np.repeat(np.arange(len(part)), sizes[start : start + step])
        crossed = place[seen.items[_slots(seen.offsets[part], seen.offsets[part + 1])]]
        left = np.ones((len(part), len(deep)), np.bool_)
        left[line[crossed >= 0], crossed[crossed >= 0]] = False
        rank_left = np.cumsum(left, axis=1)
        line, column = np.nonzero(left & (rank_left <= k))
        top[start + line, rank_left[line, column] - 1] = deep[column]
    return top


def _slots(begin: Ints, end: Ints) -> Ints:
    """All positions of the ranges begin[i] .. end[i], in order."""
    length = end - begin
    start = np.cumsum(length) - length
    return np.repeat(begin - start, length) + np.arange(length.sum())
