"""Exact ranks of known products among all candidates, and the best candidates, from scores made block by block."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from typing import Protocol

import numpy as np

from amzrec.arrays import Array, Floats, Ints, Lists
from amzrec.parallel import ahead

CUT = 10  # the k of the ranking metrics
MISS = int(np.iinfo(np.int64).max)  # the rank of a product that is no candidate
BLOCK_BYTES = 32 << 20  # of scores that each thread holds at once
MANY = 24  # positives of one row of scores from which sorting the row once beats counting for each
PAIRS = 1_000_000  # pairs of a positive and a seen product that are compared at once
GROUP = 32  # columns whose maximum is looked at first
TIED = 8  # times k groups of a row that reach its bound: more than that are ties
LOWEST = np.finfo(np.float32).min


class Scores(Protocol):
    """Scores of U queries against M candidates, of which a block of rows is made at a time."""

    @property
    def shape(self) -> tuple[int, int]:
        """(U, M)."""

    def fill(self, start: int, stop: int, out: Floats) -> None:
        """Write the scores of the queries start .. stop into out [stop - start, M]."""


class InnerProducts:
    """queries [U, d] · candidates [M, d], plus table[period[u]] for query u where there is a `table` [T, M]."""

    def __init__(
        self, queries: Floats, candidates: Floats, table: Floats | None = None, period: Array | None = None
    ) -> None:
        self.queries = queries
        self.columns = np.ascontiguousarray(candidates.T)
        self.table = None if table is None else np.ascontiguousarray(table)  # columns of a table are far apart
        self.period = np.zeros(len(queries), np.int64) if period is None else period

    @property
    def shape(self) -> tuple[int, int]:
        """(U, M)."""
        return len(self.queries), self.columns.shape[1]

    def fill(self, start: int, stop: int, out: Floats) -> None:
        """See Scores.fill."""
        np.matmul(self.queries[start:stop], self.columns, out=out)
        if self.table is not None:
            for line, period in enumerate(self.period[start:stop]):
                out[line] += self.table[period]


@dataclasses.dataclass(frozen=True)
class Ranks:
    """Where the positives [S] and the best products of G customers stand; equal scores count against a positive."""

    above: Ints  # [S] other candidates that score at least as much; MISS where the product is no candidate
    above_unseen: Ints  # [S] those of them that the customer has not seen
    top: Ints  # [G, k] columns of the best unseen candidates of each customer, -1 where there are fewer


@dataclasses.dataclass(frozen=True)
class Block:
    """Some rows of scores, and the customers who are answered from them."""

    scores: Floats  # [b, M]
    customers: Ints  # [n]
    line: Ints  # [n] the row of each customer, ascending


def rank_scores(scores: Scores, row_of: Array, positives: Lists, seen: Lists, k: int = CUT) -> Ranks:
    """Rank exactly, as if the scores of all G customers had been kept and sorted.

    `row_of` [G] is the row of `scores` that answers each customer; customers may share one. `positives` and `seen` hold
    G lists of columns: the products whose ranks are wanted (-1: no candidate), and those that the customer knows
    already, which are removed for `above_unseen` and `top`. k = 0 makes no lists of the best. Each thread holds at most
    BLOCK_BYTES of scores.
    """
    rows, width = scores.shape
    ranks = Ranks(
        np.full(len(positives.items), MISS),
        np.full(len(positives.items), MISS),
        np.full((len(row_of), k), -1, np.int64),
    )
    customers = Lists.of(row_of, np.arange(len(row_of)), rows)
    step = min(max(1, BLOCK_BYTES // (4 * max(1, width))), max(1, rows))
    kept = threading.local()  # the memory of a block, which each thread uses again

    def work(start: int) -> None:
        stop = min(start + step, rows)
        if not hasattr(kept, "scores"):
            kept.scores = np.empty((step, width), np.float32)
        part = kept.scores[: stop - start]
        scores.fill(start, stop, part)
        owner, mine = customers.take(np.arange(start, stop)).pairs()
        block = Block(part, mine, owner)
        place_positives(block, positives, seen, ranks)
        if k:
            list_best(block, seen, ranks)

    for _ in ahead(work, range(0, rows, step)):
        pass
    return ranks


# --- ranks


def place_positives(block: Block, positives: Lists, seen: Lists, ranks: Ranks) -> None:
    """Fill the ranks of the positives of the customers of a block.

    1. Line up the positives of all these customers, and their scores.
    2. `above`: how many other scores of the same row are at least as high.
    3. `above_unseen`: that, less the products among them that the customer has seen.
    """
    slots = positives.slots(block.customers)
    owner = positives.take(block.customers).owners
    columns, line = positives.items[slots], block.line[owner]
    wanted = block.scores[line, columns]  # of a product that is no candidate: any score
    above = reaching(block.scores, line, wanted)
    unseen = above - seen_reaching(block, line, wanted, block.customers[owner], seen)
    ranks.above[slots] = np.where(columns < 0, MISS, above)
    ranks.above_unseen[slots] = np.where(columns < 0, MISS, np.maximum(unseen, 0))  # a seen positive counts itself


def reaching(scores: Floats, line: Ints, wanted: Floats) -> Ints:
    """Count the other scores that reach each of `wanted` [S] in its row `line` [S], ascending; all where it is NaN."""
    lower = np.empty(len(wanted), np.int64)
    begin = np.searchsorted(line, np.arange(len(scores) + 1))
    for row, low, high in zip(scores, begin, begin[1:], strict=False):
        if high - low > MANY:
            below = np.searchsorted(np.sort(row), wanted[low:high], side="left")
            lower[low:high] = np.where(np.isnan(wanted[low:high]), 0, below)
        else:
            lower[low:high] = [np.count_nonzero(row < one) for one in wanted[low:high]]
    counts: Ints = scores.shape[1] - 1 - lower
    return counts


def seen_reaching(block: Block, line: Ints, wanted: Floats, customer: Ints, seen: Lists) -> Ints:
    """Count the products seen by `customer` [S] whose scores in row `line` [S] reach `wanted` [S]; PAIRS at a time."""
    counts = np.zeros(len(wanted), np.int64)
    ends = np.cumsum(seen.offsets[customer + 1] - seen.offsets[customer])
    starts = np.unique(np.searchsorted(ends, np.arange(0, ends[-1] if len(ends) else 0, PAIRS)))
    for low, high in itertools.pairwise([*starts, len(wanted)]):
        some = seen.take(customer[low:high])
        pair = some.owners
        scores = block.scores[line[low:high][pair], some.items]
        counts[low:high] = np.bincount(pair, ~(scores < wanted[low:high][pair]), high - low).astype(np.int64)
    return counts


# --- the best


def best(scores: Floats, k: int) -> Ints:
    """Return the columns [b, k] of the largest scores [b, M], best first, ties by ascending column.

    -1 stands where fewer than k scores are above -inf; NaN is never among the best.
    """
    lines, width = scores.shape
    if not lines or not width or not k:
        return np.full((lines, k), -1, np.int64)
    groups = max(4 * k, 256, min(width // GROUP, 4096))
    if width >= 4 * groups:
        return _best_by_groups(scores, k, groups)
    top = np.full((lines, k), -1, np.int64)
    kept = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    top[:, : kept.shape[1]] = np.where(np.take_along_axis(scores, kept, axis=1) > -np.inf, kept, -1)
    return top


def _best_by_groups(scores: Floats, k: int, groups: int) -> Ints:
    """Find the best without sorting a whole row, in one pass over the scores.

    1. Group g holds the columns g, g + groups, g + 2 groups …; take the maximum of each group.
    2. The k-th largest maximum is a lower bound of the k-th largest score: k scores reach it, one in each of k groups.
    3. Only the few groups whose maximum reaches the bound are looked into.

    Example: scores 5 1 4 3 2 0, k = 2, groups = 3: the maxima are max(5, 3), max(1, 2), max(4, 0) = 5 2 4, the bound
    is 4, and groups 0 and 2 are looked into: of 5, 3, 4, 0 the best two are 5 (column 0) and 4 (column 2).
    """
    lines, width = scores.shape
    depth = width // groups
    whole = groups * depth
    maxima = np.fmax.reduce(scores[:, :whole].reshape(lines, depth, groups), axis=1, initial=LOWEST)
    np.fmax(maxima[:, : width - whole], scores[:, whole:], out=maxima[:, : width - whole])
    bound = np.partition(maxima, groups - k, axis=1)[:, groups - k]
    line, group = np.divmod(np.flatnonzero(maxima >= bound[:, None]), groups)
    if len(line) > TIED * k * lines:
        return _best_of_ties(scores, k, bound)
    columns = group[:, None] + groups * np.arange(depth + 1)
    inside = columns < width
    values = scores[line[:, None], np.where(inside, columns, 0)]
    which, member = np.nonzero(inside & (values >= bound[line, None]))
    line, column, value = line[which], columns[which, member], values[which, member]
    order = np.lexsort((column, -value, line))
    line, column = line[order], column[order]
    rank = np.arange(len(line)) - np.searchsorted(line, np.arange(lines))[line]
    first = rank < k
    top = np.full((lines, k), -1, np.int64)
    top[line[first], rank[first]] = column[first]
    return top


def _best_of_ties(scores: Floats, k: int, bound: Floats) -> Ints:
    """Find the best a row at a time, so that memory stays bounded where many scores are equal to the bound [b]."""
    top = np.full((len(scores), k), -1, np.int64)
    for line, row in enumerate(scores):
        column = np.flatnonzero(row >= bound[line])
        ordered = column[np.argsort(-row[column], kind="stable")[:k]]
        top[line, : len(ordered)] = ordered
    return top


def list_best(block: Block, seen: Lists, ranks: Ranks) -> None:
    """Fill the best unseen products of the customers of a block; overwrites its scores."""
    k, scores, line = ranks.top.shape[1], block.scores, block.line
    shared = np.bincount(line, minlength=len(scores)) > 1
    sizes = seen.offsets[block.customers + 1] - seen.offsets[block.customers]
    crossed = shared & (np.bincount(line, sizes, len(scores)) > 0)  # rows of customers who have seen different things
    simple = ~crossed[line]
    if simple.any():
        customers = block.customers[simple]
        owner, columns = seen.take(customers).pairs()
        scores[line[simple][owner], columns] = -np.inf
        lines, line_of = np.unique(line[simple], return_inverse=True)
        top = best(scores if len(lines) == len(scores) else scores[lines], k)
        ranks.top[customers] = top[line_of]
    for number in np.flatnonzero(crossed):
        together = block.customers[line == number]
        ranks.top[together] = _best_unseen(scores[number], seen.take(together), k)


def _best_unseen(row: Floats, seen: Lists, k: int) -> Ints:
    """List the k best [n, k] for customers who share the scores `row` [M] and have seen different columns (n lists).

    One list is made that is deep enough for all, and what each of them has seen is crossed out of it.
    """
    deep = best(row[None, :], min(k + int(seen.lengths.max()), len(row)))[0]
    deep = deep[deep >= 0]
    rank_of = np.full(len(row), -1, np.int64)
    rank_of[deep] = np.arange(len(deep))
    top = np.full((len(seen), k), -1, np.int64)
    step = max(1, PAIRS // max(1, len(deep)))
    for start in range(0, len(seen), step):
        stop = min(start + step, len(seen))
        owner, columns = seen.take(np.arange(start, stop)).pairs()
        rank = rank_of[columns]
        left = np.ones((stop - start, len(deep)), np.bool_)
        left[owner[rank >= 0], rank[rank >= 0]] = False
        rank_left = np.cumsum(left, axis=1)
        line, column = np.nonzero(left & (rank_left <= k))
        top[start + line, rank_left[line, column] - 1] = deep[column]
    return top
