"""Top-k by inner product: exact in blocks, and ScaNN for catalogues too large for that."""

from __future__ import annotations

import importlib
import json
import mmap
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from amzrec.answers.ranks import best
from amzrec.errors import SILENT, AmzrecError, Progress

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int32]
Columns = npt.NDArray[np.intp]
Exclude = Sequence[npt.NDArray[np.int32]]

BLOCK_BYTES = 64 << 20  # of scores held at once by the exact search; smaller blocks starve the matrix product
PART = 1 << 17  # candidates that one query looks at together
EXACT_UNTIL = 100_000  # candidates: below, exact search takes 1 to 2 ms a query and an index does not pay (measured)
BRUTE_UNTIL = 20_000  # candidates: below, ScaNN's authors advise its own brute force; its tree loses products there
TREE_FROM = 100_000  # candidates: between the two, hashing without a tree (advice of ScaNN's authors)
WIDE = 200  # exclusions: for more, asking ScaNN for k + exclusions costs more than exact search (measured)
DEEP = 1000  # k + exclusions above which ScaNN is not asked either
REORDER = 10  # times k, rescored exactly: bounds the recall, .976 at k = 100 of 1 million (measured)
REORDER_LEAST = 300
ROWS = "rows.npy"
FACTS = "index.json"
NONE = np.zeros(0, np.intp)


class Index(Protocol):
    """What a search structure over candidate vectors answers."""

    def search(self, queries: Floats, k: int, exclude: Exclude | None = None) -> tuple[Rows, Floats]:
        """For queries [B, d] the rows and scores [B, k] of the largest inner products, best first.

        `exclude` is one array of rows per query, of any width, which are never answered; rows that are no candidate
        do no harm in it. Equal scores come by ascending row (ScaNN: among those it found). Where fewer than k are
        left the rest is row 0 with score -inf.
        """
        ...


class ExactIndex:
    """Brute force over blocks of queries: exact, deterministic, fast enough up to ~100,000 candidates."""

    def __init__(self, candidates: Floats, rows: Rows) -> None:
        """`candidates` [M, d] are the vectors of the product rows `rows` [M], which ascend strictly."""
        check_candidates(candidates, rows)
        self.candidates = candidates
        self.rows = rows

    def search(self, queries: Floats, k: int, exclude: Exclude | None = None) -> tuple[Rows, Floats]:
        """See Index.search."""
        top = np.zeros((len(queries), k), np.int32)
        score = np.full((len(queries), k), -np.inf, np.float32)
        if not len(self.rows):
            return top, score
        step = min(max(1, BLOCK_BYTES // (4 * len(self.rows))), max(1, len(queries)))
        block = np.empty((step, len(self.rows)), np.float32)
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            asked = queries[part]
            scores = self._scores(asked, block[: len(asked)])
            if exclude is not None and len(asked):
                gone = exclude[part]
                line = np.repeat(np.arange(len(gone)), [len(rows) for rows in gone])
                place, found = find(self.rows, np.concatenate(gone))
                scores[line[found], place[found]] = -np.inf
            place = best(scores, k)
            found = place >= 0
            top[part] = np.where(found, self.rows[place], 0)
            score[part] = np.where(found, np.take_along_axis(scores, place, axis=1), -np.inf)
        return top, score

    def _scores(self, asked: Floats, out: Floats) -> Floats:
        """[b, M] inner products; one query goes over a large catalogue in parts, so that little is in memory."""
        if len(asked) > 1 or len(self.candidates) <= PART:
            return np.matmul(asked, self.candidates.T, out=out)
        for start in range(0, len(self.candidates), PART):
            part = self.candidates[start : start + PART]
            np.matmul(asked, part.T, out=out[:, start : start + PART])
            give_back(part)
        return out


def give_back(part: Floats) -> None:
    """Let go of the memory of vectors that are mapped from a file; they are read again when they are needed again."""
    mapped = getattr(part, "_mmap", None)
    if mapped is None or not hasattr(mmap, "MADV_DONTNEED") or not part.flags.c_contiguous:
        return
    first = part.__array_interface__["data"][0] - np.frombuffer(mapped, np.uint8).__array_interface__["data"][0]
    begin, end = first + -first % mmap.PAGESIZE, (first + part.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if end > begin:
        mapped.madvise(mmap.MADV_DONTNEED, begin, end - begin)


def check_candidates(candidates: Floats, rows: Rows) -> None:
    """Raise ValueError where vectors and rows do not belong together, or a candidate is listed twice."""
    if candidates.ndim != 2 or rows.shape != (len(candidates),):
        raise ValueError(f"candidates {candidates.shape} and rows {rows.shape} do not belong together")
    if not bool((rows[1:] > rows[:-1]).all()):
        raise ValueError("rows must ascend strictly: candidates are unique")


def find(rows: Rows, wanted: Rows) -> tuple[Columns, npt.NDArray[np.bool_]]:
    """Where each of the `wanted` rows [n] would stand in the ascending `rows`, and whether it is there."""
    place: Columns = np.minimum(np.searchsorted(rows, wanted), len(rows) - 1)
    return place, np.equal(rows[place], wanted)


def positions(rows: Rows, wanted: Rows) -> Columns:
    """Where the `wanted` rows stand in the ascending `rows`; those that are not there are left out."""
    if not len(rows):
        return np.zeros(0, np.intp)
    place, found = find(rows, wanted)
    return place[found]


def avx2() -> bool:
    """Whether this processor has AVX2, without which importing scann kills the process (Linux on x86-64 only)."""
    try:
        return " avx2 " in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def without_scann() -> str | None:
    """Why ScaNN cannot be used here, as half a sentence, or None where it can."""
    if not avx2():
        return "it needs Linux on an x86-64 processor with AVX2"
    try:
        scann()
    except Exception as error:  # TensorFlow raises errors of its own for ops that were built for another version
        return f"the scann package cannot be imported ({error})"
    return None


@lru_cache(maxsize=1)
def scann() -> Any:
    """The module scann_ops_pybind, without TensorFlow where that is not loaded yet (0.2 s instead of 5).

    The scann package imports TensorFlow if it can. It is made to find none, and forgotten afterwards, so that a later
    `import scann` in this process is a whole one. Raises ImportError.
    """
    name = "scann.scann_ops.py.scann_ops_pybind"
    if "tensorflow" in sys.modules or "scann" in sys.modules:
        return importlib.import_module(name)
    sys.modules["tensorflow"] = None  # type: ignore[assignment]
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules["tensorflow"]
        for loaded in [m for m in sys.modules if m == "scann" or m.startswith("scann.")]:
            del sys.modules[loaded]


def configure(builder: Any, count: int) -> Any:
    """Choose how ScaNN searches `count` candidates; `builder` is the one of the numpy or of the TensorFlow ops."""
    if count < BRUTE_UNTIL:
        return builder.score_brute_force()
    if count >= TREE_FROM:
        leaves = round(count**0.5)
        builder = builder.tree(
            num_leaves=leaves, num_leaves_to_search=max(1, leaves // 5), training_sample_size=250_000
        )
    return builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(REORDER_LEAST)


def reorder(wanted: int) -> int:
    """How many approximate hits to rescore for `wanted` answers."""
    return max(REORDER_LEAST, REORDER * wanted)


class ScannIndex:
    """ScaNN over the same vectors: approximate above 20,000 candidates, with exact scores for what it finds."""

    def __init__(self, searcher: Any, candidates: Floats, rows: Rows) -> None:
        """Use `build` or `load`."""
        self.searcher = searcher
        self.exact = ExactIndex(candidates, rows)

    @classmethod
    def build(cls, candidates: Floats, rows: Rows) -> Self:
        """Train an index: seconds for 100,000 candidates, ~10 s per million on two cores.

        Raises ValueError for values that are not finite, which would spoil results silently.
        """
        check_candidates(candidates, rows)
        if not len(rows) or not bool(np.isfinite(candidates).all()):
            raise ValueError("ScaNN needs at least one candidate, and only finite numbers")
        builder = scann().builder(np.ascontiguousarray(candidates), REORDER_LEAST, "dot_product")
        return cls(configure(builder, len(rows)).build(), candidates, rows)

    def save(self, folder: Path) -> None:
        """Write into an empty folder what `load`, and `load_searcher` of the scann package, read; it may be moved."""
        self.searcher.serialize(str(folder), True)
        np.save(folder / "dataset.npy", self.exact.candidates, allow_pickle=False)
        np.save(folder / ROWS, self.exact.rows, allow_pickle=False)
        (folder / FACTS).write_text(
            json.dumps({"candidates": len(self.exact.rows), "width": self.exact.candidates.shape[1]})
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open a saved index, memory-mapped; raises AmzrecError where it is missing or damaged."""
        try:
            facts = json.loads((folder / FACTS).read_text())
            rows = np.load(folder / ROWS, allow_pickle=False)
            candidates = np.load(folder / "dataset.npy", mmap_mode="r", allow_pickle=False)
            if candidates.shape != (facts["candidates"], facts["width"]):
                raise ValueError(f"it holds {candidates.shape} and not {facts}")
            return cls(scann().load_searcher(str(folder), assets_backcompat_shim=False), candidates, rows)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise AmzrecError(
                f"{folder} is not a ScaNN index, or damaged ({error}): amzrec export writes one"
            ) from error

    def search(self, queries: Floats, k: int, exclude: Exclude | None = None) -> tuple[Rows, Floats]:
        """See Index.search; queries with many exclusions, or that ScaNN left short, are answered exactly."""
        top = np.zeros((len(queries), k), np.int32)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        gone = [positions(self.exact.rows, e) for e in exclude] if exclude is not None else [NONE] * len(queries)
        wide = np.array([len(g) > WIDE or k + len(g) > DEEP for g in gone], bool)
        near = np.flatnonzero(~wide)
        if len(near) and k:
            ask = min(k + max(len(gone[i]) for i in near), len(self.exact.rows))
            place, near_scores = self.searcher.search_batched(
                np.ascontiguousarray(queries[near], np.float32),
                final_num_neighbors=ask,
                pre_reorder_num_neighbors=min(reorder(ask), len(self.exact.rows)),
            )
            for i, line, value in zip(near, place.astype(np.intp), near_scores, strict=True):
                keep = ~np.isnan(value) & ~np.isin(line, gone[i])
                line, value = line[keep], value[keep]
                order = np.lexsort((line, -value))[:k]
                if len(order) < min(k, len(self.exact.rows) - len(np.unique(gone[i]))):
                    wide[i] = True
                    continue
                top[i, : len(order)], scores[i, : len(order)] = self.exact.rows[line[order]], value[order]
        if wide.any():
            rest = np.flatnonzero(wide)
            top[rest], scores[rest] = self.exact.search(
                queries[rest], k, [exclude[int(i)] for i in rest] if exclude else None
            )
        return top, scores


def make_index(candidates: Floats, rows: Rows, folder: Path | None = None, *, progress: Progress = SILENT) -> Index:
    """The index that suits the number of candidates: exact up to ~100,000, ScaNN above where it can be used.

    `folder` keeps a trained ScaNN index for the next time: it is loaded from there, or built and saved there. For one
    short question ExactIndex is faster at any size: opening ScaNN costs more than one exact search.
    """
    if len(rows) < EXACT_UNTIL:
        return ExactIndex(candidates, rows)
    reason = without_scann()
    if reason:
        progress.say(f"searching {len(rows):,} products exactly: ScaNN is not used, {reason}")
        return ExactIndex(candidates, rows)
    if folder is not None and (folder / FACTS).is_file():
        index = ScannIndex.load(folder)
        if np.array_equal(index.exact.rows, rows) and np.array_equal(index.exact.candidates, candidates):
            return index
    progress.say(f"building a ScaNN index of {len(rows):,} products")
    index = ScannIndex.build(candidates, rows)
    if folder is not None:
        from amzrec.store.folders import whole_folder

        with whole_folder(folder, True, "ScaNN index") as partial:
            index.save(partial)
    return index
