"""Exact ranks of known products among all candidates, in blocks of scores, and the best of each block."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from amzrec.arrays import Array, Floats, Ints, Lists, ranges
from amzrec.parallel import ahead

CUT = 10  # the k of the ranking metrics
MISS = int(np.iinfo(np.int64).max)  # the rank of a product that is no candidate
BLOCK_BYTES = 32 << 20  # of scores held at once by each thread
MANY = 24  # positives of one query from which sorting its scores once beats counting for each
PAIRS = 1_000_000  # cells of customers times products that are looked at together
GROUP = 32  # columns whose maximum is looked at first
TIED = 8  # times k groups of a line that reach its bound: more are ties
LOWEST = np.finfo(np.float32).min

Scores = Callable[[int, int, Floats], None]  # writes the scores [b, M] of queries start .. start + b


@dataclasses.dataclass(frozen=True)
class Ranks:
    """How many candidates stand at or above each positive, ties counted against it, itself not counted."""

    above: Ints  # [T] among all candidates; MISS where the product is none
    above_unseen: Ints  # [T] among those that the customer has not seen
    top: Ints  # [G, k] positions of the best unseen candidates of each customer, -1 where there are fewer


def best(scores: Floats, k: int) -> Ints:
    """Columns [b, k] of the largest scores [b, M], best first, ties by ascending column, -1 for -inf and NaN.

    Columns are pooled into groups. The k-th largest of the maxima of the groups is a lower bound of the k-th largest
    score, so only the few groups that reach it are looked into: one pass over the block.
    """
    lines, width = scores.shape
    top = np.full((lines, k), -1, np.int64)
    groups = max(4 * k, 256, min(width // GROUP, 4096))
    if not lines or not width or not k:
        return top
    if width < 4 * groups:
        kept = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        top[:, : kept.shape[1]] = np.where(np.take_along_axis(scores, kept, axis=1) > -np.inf, kept, -1)
        return top
    depth = width // groups  # group g holds the columns g, g + groups, g + 2 groups …
    whole = groups * depth
    maxima = np.fmax.reduce(scores[:, :whole].reshape(lines, depth, groups), axis=1, initial=LOWEST)
    np.fmax(maxima[:, : width - whole], scores[:, whole:], out=maxima[:, : width - whole])
    bound = np.partition(maxima, groups - k, axis=1)[:, groups - k]
    line, group = np.divmod(np.flatnonzero(maxima >= bound[:, None]), groups)
    if len(line) > TIED * k * lines:
        for number, row in enumerate(scores):  # many equal scores: a line at a time, so that memory stays bounded
            column = np.flatnonzero(row >= bound[number])
            ordered = column[np.argsort(-row[column], kind="stable")[:k]]
            top[number, : len(ordered)] = ordered
        return top
    columns = group[:, None] + groups * np.arange(depth + 1)
    inside = columns < width
    values = scores[line[:, None], np.where(inside, columns, 0)]
    which, place = np.nonzero(inside & (values >= bound[line, None]))
    line, column = line[which], columns[which, place]
    order = np.lexsort((column, -values[which, place], line))
    line, column = line[order], column[order]
    place = np.arange(len(line)) - np.searchsorted(line, np.arange(lines))[line]
    first = place < k
    top[line[first], place[first]] = column[first]
    return top


def inner_products(queries: Floats, candidates: Floats, prior: Floats | None = None, period: Any = None) -> Scores:
    """queries [U, d] · candidates [M, d]; with `prior` [T, M] and `period` [U] plus prior[period[u]] for query u."""
    columns = np.ascontiguousarray(candidates.T)
    prior = None if prior is None else np.ascontiguousarray(prior)  # table[:, rows] comes with its columns together

    def fill(start: int, stop: int, scores: Floats) -> None:
        np.matmul(queries[start:stop], columns, out=scores)
        if prior is not None:
            for line, row in enumerate(period[start:stop]):
                scores[line] += prior[row]

    return fill


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
    """`rank_scores` of `inner_products`."""
    scores = inner_products(queries, candidates, prior, period)
    return rank_scores(scores, len(queries), len(candidates), query_of, positives, seen, k)


def rank_scores(
    scores: Scores, asked: int, width: int, query_of: Array, positives: Lists, seen: Lists, k: int = CUT
) -> Ranks:
    """Exact ranks and the k best for G customers over M unique candidates, as if [G, M] scores had been sorted.

    `scores` answers `asked` queries over `width` candidates, `query_of` [G] is the query of each customer (several may
    share one), `positives` their test products as positions, -1 for a product that is no candidate; `seen` what is
    removed for `above_unseen` and `top`. Each thread holds at most BLOCK_BYTES of scores.
    """
    found = Ranks(
        np.full(len(positives.items), MISS),
        np.full(len(positives.items), MISS),
        np.full((len(query_of), k), -1, np.int64),
    )
    by_query = np.argsort(query_of, kind="stable")
    first = np.searchsorted(query_of[by_query], np.arange(asked + 1))
    step = min(max(1, BLOCK_BYTES // (4 * max(1, width))), max(1, asked))
    own = threading.local()

    def block(start: int) -> None:
        stop = min(start + step, asked)
        if not hasattr(own, "scores"):
            own.scores = np.empty((step, width), np.float32)
        part = own.scores[: stop - start]
        scores(start, stop, part)
        customers = by_query[first[start] : first[stop]]
        line = np.repeat(np.arange(stop - start), np.diff(first[start : stop + 1]))
        _place(part, customers, line, positives, seen, found)
        if k:
            _recommend(part, customers, line, seen, found)

    for _ in ahead(block, range(0, asked, step)):
        pass
    return found


def _place(scores: Floats, customers: Ints, line: Ints, positives: Lists, seen: Lists, found: Ranks) -> None:
    """Fill the ranks of the customers [n], whose scores stand in the lines [n] of a block."""
    begin, end = positives.offsets[customers], positives.offsets[customers + 1]
    slots, owner = ranges(begin, end), np.repeat(np.arange(len(customers)), end - begin)
    lines, items = line[owner], positives.items[slots]
    wanted = scores[lines, items]
    above = _reached(scores, lines, wanted)
    found.above[slots] = np.where(items < 0, MISS, above)
    begin, end = (seen.offsets[customers[owner] + i] for i in (0, 1))
    ends = np.cumsum(end - begin)
    edges = np.unique(np.searchsorted(ends, np.arange(0, ends[-1] if len(ends) else 0, PAIRS)))
    for low, high in itertools.pairwise([*edges, len(owner)]):
        pair = np.repeat(np.arange(low, high), (end - begin)[low:high])
        gone = scores[lines[pair], seen.items[ranges(begin[low:high], end[low:high])]]
        above[low:high] -= np.bincount(pair - low, ~(gone < wanted[pair]), high - low).astype(np.int64)
    found.above_unseen[slots] = np.where(items < 0, MISS, np.maximum(above, 0))


def _reached(scores: Floats, line: Ints, wanted: Floats) -> Ints:
    """How many other scores of its `line` [S], which ascend, reach each wanted one: all of them where that is NaN."""
    lower = np.empty(len(wanted), np.int64)
    begin = np.searchsorted(line, np.arange(len(scores) + 1))
    for row, low, high in zip(scores, begin, begin[1:], strict=False):
        if high - low > MANY:
            sorted_in = np.searchsorted(np.sort(row), wanted[low:high], side="left")
            lower[low:high] = np.where(np.isnan(wanted[low:high]), 0, sorted_in)
        else:
            lower[low:high] = [np.count_nonzero(row < score) for score in wanted[low:high]]
    found: Ints = scores.shape[1] - 1 - lower
    return found


def _recommend(scores: Floats, customers: Ints, line: Ints, seen: Lists, found: Ranks) -> None:
    """Fill the k best unseen of the customers [n]; overwrites scores."""
    many, sizes = np.bincount(line, minlength=len(scores)) > 1, np.diff(seen.offsets)[customers]
    crossed = many & (np.bincount(line, sizes, len(scores)) > 0)  # lines that customers share who saw different things
    alone = ~crossed[line]
    if alone.any():
        owner, gone = seen.take(customers[alone]).pairs()
        scores[line[alone][owner], gone] = -np.inf
        lines, line_of = np.unique(line[alone], return_inverse=True)
        top = best(scores if len(lines) == len(scores) else scores[lines], found.top.shape[1])
        found.top[customers[alone]] = top[line_of]
    for number in np.flatnonzero(crossed):
        together = customers[line == number]
        found.top[together] = _best_unseen(scores[number], together, seen, found.top.shape[1])


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
        line, gone = seen.take(part).pairs()
        crossed = place[gone]
        left = np.ones((len(part), len(deep)), np.bool_)
        left[line[crossed >= 0], crossed[crossed >= 0]] = False
        rank_left = np.cumsum(left, axis=1)
        line, column = np.nonzero(left & (rank_left <= k))
        top[start + line, rank_left[line, column] - 1] = deep[column]
    return top
