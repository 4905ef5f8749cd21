"""Top-k by inner product: exact in blocks, and ScaNN for catalogues too large for that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int32]
Exclude = Sequence[npt.NDArray[np.int32]]

BLOCK_BYTES = 32 << 20  # of scores held at once by the exact search
NOBODY = np.zeros(0, np.int32)


class Index(Protocol):
    """What a search structure over candidate vectors answers."""

    def search(self, queries: Floats, k: int, exclude: Exclude | None = None) -> tuple[Rows, Floats]:
        """For queries [B, d] the rows and scores [B, k] of the best inner products, best first.

        `exclude` is one array of rows per query, of any width, which are never answered (unknown rows are ignored).
        Equal scores come by ascending row; where fewer than k are left the rest is row 0 with score -inf.
        """
        ...


def avx2() -> bool:
    """Whether this processor has AVX2, without which importing scann kills the process (Linux on x86-64 only)."""
    try:
        return " avx2 " in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


class ExactIndex:
    """Brute force over blocks of queries: exact, deterministic, and fast enough up to ~100,000 candidates."""

    def __init__(self, candidates: Floats, rows: Rows) -> None:
        """`candidates` [M, d] are the vectors of the product rows `rows` [M], which ascend strictly."""
        if candidates.ndim != 2 or rows.shape != (len(candidates),):
            raise ValueError(f"candidates {candidates.shape} and rows {rows.shape} do not belong together")
        if len(rows) > 1 and not bool((rows[1:] > rows[:-1]).all()):
            raise ValueError("rows must ascend strictly: candidates are unique")
        self.candidates = candidates
        self.rows = rows

    def search(self, queries: Floats, k: int, exclude: Exclude | None = None) -> tuple[Rows, Floats]:
        """See Index.search."""
        top = np.zeros((len(queries), k), np.int32)
        best = np.full((len(queries), k), -np.inf, np.float32)
        step = max(1, BLOCK_BYTES // (4 * max(1, len(self.rows))))
        for start in range(0, len(queries), step):
            scores = queries[start : start + step] @ self.candidates.T  # [b, M]
            if exclude is not None:
                for line, gone in zip(scores, exclude[start : start + step], strict=True):
                    line[positions(self.rows, gone)] = -np.inf
            place, value = top_positions(scores, k)
            width = place.shape[1]
            top[start : start + step, :width] = np.where(value > -np.inf, self.rows[place], 0)
            best[start : start + step, :width] = value
        return top, best


def positions(rows: Rows, wanted: Rows) -> npt.NDArray[np.intp]:
    """Where the `wanted` rows stand in the ascending `rows`; those that are not there are left out."""
    if not len(rows):
        return np.zeros(0, np.intp)
    place: npt.NDArray[np.intp] = np.minimum(np.searchsorted(rows, wanted), len(rows) - 1)
    return place[np.equal(rows[place], wanted)]


def top_positions(scores: Floats, k: int) -> tuple[npt.NDArray[np.intp], Floats]:
    """Columns and values [b, min(k, M)] of the largest scores [b, M], best first, ties by ascending column."""
    width = min(k, scores.shape[1])
    if width < scores.shape[1]:
        place = np.argpartition(-scores, width - 1, axis=1)[:, :width] if width else np.zeros((len(scores), 0), np.intp)
        repair_ties(scores, place)
    else:
        place = np.broadcast_to(np.arange(width), (len(scores), width)).copy()
    place.sort(axis=1)
    value = np.take_along_axis(scores, place, axis=1)
    order = np.argsort(-value, axis=1, kind="stable")
    return np.take_along_axis(place, order, axis=1), np.take_along_axis(value, order, axis=1)


def repair_ties(scores: Floats, place: npt.NDArray[np.intp]) -> None:
    """Give, in place, the ties at the edge of each selection `place` [b, k] to the lowest columns.

    A partition keeps any of the candidates that share the k-th score; only lines where some were left out are redone.
    """
    if not place.size:
        return
    width = place.shape[1]
    edge = np.take_along_axis(scores, place, axis=1).min(axis=1)
    for line in np.flatnonzero((scores >= edge[:, None]).sum(axis=1) > width):
        above = np.flatnonzero(scores[line] > edge[line])
        place[line] = np.concatenate([above, np.flatnonzero(scores[line] == edge[line])[: width - len(above)]])
