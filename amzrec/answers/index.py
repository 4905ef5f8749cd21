"""Top-k by inner product: what every search structure answers, and the exact one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from amzrec.answers.ranks import best
from amzrec.arrays import Bools, Floats, Ints, Rows, give_back
from amzrec.store.memory import Votes

Columns = npt.NDArray[np.intp]
Exclude = Sequence[Rows]

BLOCK_BYTES = 64 << 20  # of scores held at once by the exact search; smaller blocks starve the matrix product
PART = 1 << 17  # candidates that one query looks at together
FEW = 4  # candidates per one that is kept from which the kept ones are copied instead of hiding the others


class Index(Protocol):
    """A search structure over candidate vectors."""

    def search(
        self, queries: Floats, k: int, exclude: Exclude | None = None, votes: Votes | None = None
    ) -> tuple[Rows, Floats]:
        """Return, for queries [B, d], the rows and scores [B, k] of the largest inner products plus votes, best first.

        `exclude` is one array of rows per query, of any width, which are never answered; rows that are no candidate
        do no harm in it. Equal scores come by ascending row (ScaNN: among those it found). Where fewer than k are
        left the rest is row 0 with score -inf.
        """
        ...

    def keeping(self, keep: Bools) -> Index:
        """Return an index of the candidates that `keep` [M] says, without copying the others; may be narrowed again."""
        ...

    def shifted(self, added: Floats) -> Index:
        """Return an index with `added` [M] on the scores of all queries; its search is exact."""
        ...


class ExactIndex:
    """Brute force over blocks of queries: exact, deterministic, fast enough up to about 100,000 candidates."""

    def __init__(self, candidates: Floats, rows: Rows) -> None:
        """`candidates` [M, d] are the vectors of the product rows `rows` [M], which ascend strictly."""
        check_candidates(candidates, rows)
        self.candidates = candidates
        self.rows = rows
        self.added: Floats | None = None  # [M] on the scores of all queries
        self.hidden: Ints | None = None  # columns that are never answered
        self.whole: ExactIndex | None = None  # what it was narrowed from …
        self.keep: Bools | None = None  # … and to which candidates of that

    def search(
        self, queries: Floats, k: int, exclude: Exclude | None = None, votes: Votes | None = None
    ) -> tuple[Rows, Floats]:
        """See Index.search."""
        top = np.zeros((len(queries), k), np.int32)
        top_scores = np.full((len(queries), k), -np.inf, np.float32)
        if not len(self.rows):
            return top, top_scores
        step = min(max(1, BLOCK_BYTES // (4 * len(self.rows))), max(1, len(queries)))
        memory = np.empty((step, len(self.rows)), np.float32)  # of a block, which each one uses again
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            scores = self._scores(queries[part], memory[: len(queries[part])])
            if self.added is not None:
                scores += self.added
            if votes is not None:
                self._vote(scores, votes.take(np.arange(len(queries))[part]))
            if self.hidden is not None:
                scores[:, self.hidden] = -np.inf
            if exclude is not None:
                self._exclude(scores, exclude[part])
            columns = best(scores, k)
            answered = columns >= 0
            top[part] = np.where(answered, self.rows[columns], 0)
            top_scores[part] = np.where(answered, np.take_along_axis(scores, columns, axis=1), -np.inf)
        return top, top_scores

    def keeping(self, keep: Bools) -> ExactIndex:
        """See Index.keeping."""
        whole, keep = self.whole or self, keep if self.keep is None else self.keep & keep
        narrowed = copy.copy(whole)
        narrowed.whole, narrowed.keep = whole, keep
        if keep.sum() > len(keep) / FEW:
            narrowed.hidden = np.flatnonzero(~keep)
            return narrowed
        columns = np.flatnonzero(keep)
        narrowed.candidates, narrowed.rows = whole.candidates[columns], whole.rows[columns]
        narrowed.added = None if whole.added is None else whole.added[columns]
        narrowed.__dict__.pop("columns", None)
        return narrowed

    def shifted(self, added: Floats) -> ExactIndex:
        """See Index.shifted."""
        moved = copy.copy(self.whole or self)
        moved.added = added if moved.added is None else moved.added + added
        return moved if self.keep is None else moved.keeping(self.keep)

    @cached_property
    def columns(self) -> Ints:
        """Where each product row up to the last candidate stands among the candidates; -1 for one that is none."""
        size = int(self.rows[-1]) + 1 if len(self.rows) else 1
        columns = np.full(size, -1, np.int64)
        columns[self.rows] = np.arange(len(self.rows))
        return columns

    def _vote(self, scores: Floats, votes: Votes) -> None:
        """Add the votes of queries to their scores [b, M]; few are looked up without a table of all products."""
        if len(votes.products.items) > len(self.rows) / FEW or "columns" in self.__dict__:
            votes.add(scores, self.columns)
            return
        line, product = votes.products.pairs()
        columns, there = find(self.rows, product)
        scores[line[there], columns[there]] += votes.weights[there]

    def _scores(self, queries: Floats, out: Floats) -> Floats:
        """Compute [b, M] inner products; one query goes over a large catalogue in parts, to keep little in memory."""
        if len(queries) > 1 or len(self.candidates) <= PART:
            return np.matmul(queries, self.candidates.T, out=out)
        for start in range(0, len(self.candidates), PART):
            part = self.candidates[start : start + PART]
            np.matmul(queries, part.T, out=out[:, start : start + PART])
            give_back(part)
        return out

    def _exclude(self, scores: Floats, exclude: Exclude) -> None:
        """Put -inf where a query [b] must not be answered with a candidate."""
        line = np.repeat(np.arange(len(exclude)), [len(rows) for rows in exclude])
        columns, are_candidates = find(self.rows, np.concatenate([*exclude, np.zeros(0, np.int32)]))
        scores[line[are_candidates], columns[are_candidates]] = -np.inf


def check_candidates(candidates: Floats, rows: Rows) -> None:
    """Raise ValueError where vectors and rows do not belong together, or a candidate is listed twice."""
    if candidates.ndim != 2 or rows.shape != (len(candidates),):
        raise ValueError(f"candidates {candidates.shape} and rows {rows.shape} do not belong together")
    if not bool((rows[1:] > rows[:-1]).all()):
        raise ValueError("rows must ascend strictly: candidates are unique")


def find(rows: Rows, wanted: Rows) -> tuple[Columns, Bools]:
    """Tell where each of the `wanted` rows [n] would stand in the ascending `rows`, and whether it is there."""
    if not len(rows):
        return np.zeros(len(wanted), np.intp), np.zeros(len(wanted), np.bool_)
    first, last = int(rows[0]), int(rows[-1])
    if last - first + 1 == len(rows):  # one after the other, as candidates are by default: nothing is to be searched
        columns: Columns = np.minimum(np.maximum(wanted, first), last).astype(np.intp) - first
        return columns, (wanted >= first) & (wanted <= last)
    columns = np.minimum(np.searchsorted(rows, wanted), len(rows) - 1)
    return columns, np.equal(rows[columns], wanted)


def columns_of(rows: Rows, wanted: Rows) -> Columns:
    """Tell where the `wanted` rows stand in the ascending `rows`; those that are not there are left out."""
    if not len(rows):
        return np.zeros(0, np.intp)
    columns, are_there = find(rows, wanted)
    return columns[are_there]
