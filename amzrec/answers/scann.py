"""ScaNN over the same vectors as the exact index: approximate, for catalogues that are too large for exact search."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import json
import sys
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np

from amzrec.answers.index import ExactIndex, Exclude, check_candidates, columns_of, find
from amzrec.arrays import Array, Bools, Floats, Rows, among
from amzrec.errors import AmzrecError
from amzrec.store.documents import json_value
from amzrec.store.memory import Votes

BRUTE_UNTIL = 20_000  # candidates: below, ScaNN's authors advise its own brute force; its tree loses products there
TREE_FROM = 100_000  # candidates: between the two, hashing without a tree (advice of ScaNN's authors)
WIDE = 200  # exclusions: for more, asking ScaNN for k + exclusions costs more than exact search (measured)
DEEP = 1000  # k + exclusions above which ScaNN is not asked either
REORDER = 10  # times k, rescored exactly: bounds the recall, .976 at k = 100 of 1 million (measured)
REORDER_LEAST = 300
SPARE = 2  # times as many hits as are wanted, which a compact index is asked for: rounded scores change their order
ROWS = "rows.npy"
FACTS = "index.json"

Builder = Any  # of the scann package, which has no types
Searcher = Any


def avx2() -> bool:
    """Tell whether this processor has AVX2, without which importing scann kills the process (Linux on x86-64 only)."""
    try:
        return " avx2 " in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def without_scann() -> str | None:
    """Say in half a sentence why ScaNN cannot be used here; None where it can."""
    if not avx2():
        return "it needs Linux on an x86-64 processor with AVX2"
    try:
        scann_ops()
    except Exception as error:  # TensorFlow raises errors of its own for ops that were built for another version
        return f"the scann package cannot be imported ({error})"
    return None


@lru_cache(maxsize=1)
def scann_ops() -> Any:
    """Import the module scann_ops_pybind, without TensorFlow where that is not loaded yet (0.2 s instead of 5).

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


def leaves_of(count: int) -> int:
    """Return how many leaves the tree of an index of `count` candidates has; 0: no tree."""
    return round(count**0.5) if count >= TREE_FROM else 0


def configure(builder: Builder, count: int, compact: bool = False) -> Builder:
    """Choose how ScaNN searches `count` candidates; `builder` is the one of the numpy or of the TensorFlow ops.

    `compact` lets it keep vectors of 8 bits a number for rescoring, instead of a copy of all vectors: a million of 65
    dimensions take 88 MB instead of 279, and a search less time (measured). Its scores are not exact then.
    """
    if count < BRUTE_UNTIL:
        return builder.score_brute_force()
    if count >= TREE_FROM:
        leaves = leaves_of(count)
        builder = builder.tree(
            num_leaves=leaves, num_leaves_to_search=max(1, leaves // 5), training_sample_size=250_000
        )
    return builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(REORDER_LEAST, compact)


class Slow(Exception):
    """A search that takes longer than one that ScaNN does, where only those were wanted."""


@dataclasses.dataclass(frozen=True)
class Effort:
    """How much of an index ScaNN looks at: what its recall, and its time, depend on."""

    leaves: int | None = None  # of the tree that are searched; None: as many as it was built with
    least: int = REORDER_LEAST  # approximate hits that are rescored exactly, at least …
    times: int = REORDER  # … and so many for each answer that is wanted

    def reorder(self, wanted: int) -> int:
        """Return how many approximate hits to rescore for `wanted` answers."""
        return max(self.least, self.times * wanted)


class ScannIndex:
    """An Index that is approximate above 20,000 candidates, with exact scores for what it finds."""

    def __init__(
        self,
        searcher: Searcher,
        candidates: Floats,
        rows: Rows,
        effort: Effort | None = None,
        compact: bool = False,
    ) -> None:
        """Use `build` or `load`."""
        self.searcher, self.compact = searcher, compact
        self.whole = ExactIndex(candidates, rows)
        self.effort = effort or Effort()
        self.quick = False  # whether it raises Slow instead of searching exactly
        self.keep: Bools | None = None  # [M] which candidates may be answered; None: all

    @cached_property
    def exact(self) -> ExactIndex:
        """The exact index of the candidates that may be answered."""
        return self.whole if self.keep is None else self.whole.keeping(self.keep)

    def keeping(self, keep: Bools) -> ScannIndex:
        """See Index.keeping."""
        narrowed = copy.copy(self)
        narrowed.__dict__.pop("exact", None)
        narrowed.keep = keep if self.keep is None else self.keep & keep
        return narrowed

    def shifted(self, added: Floats) -> ExactIndex:
        """See Index.shifted."""
        moved = self.whole.shifted(added)
        return moved if self.keep is None else moved.keeping(self.keep)

    @property
    def leaves(self) -> int | None:
        """How many leaves its tree has; None where it has no tree."""
        return leaves_of(len(self.whole.rows)) or None

    def trying(self, effort: Effort) -> ScannIndex:
        """Return the same index, searched with another effort."""
        other = copy.copy(self)
        other.effort = effort
        return other

    def quickly(self) -> ScannIndex:
        """Return the same index, which raises Slow where it would have to search exactly."""
        other = copy.copy(self)
        other.quick = True
        return other

    @classmethod
    def build(cls, candidates: Floats, rows: Rows, compact: bool = False) -> Self:
        """Train an index: seconds for 100,000 candidates, about 10 s per million on two cores; see `configure`.

        Raises ValueError for values that are not finite, which would spoil results silently.
        """
        check_candidates(candidates, rows)
        if not len(rows) or not bool(np.isfinite(candidates).all()):
            raise ValueError("ScaNN needs at least one candidate, and only finite numbers")
        builder = scann_ops().builder(np.ascontiguousarray(candidates), REORDER_LEAST, "dot_product")
        return cls(configure(builder, len(rows), compact).build(), candidates, rows, compact=compact)

    def save(self, folder: Path) -> None:
        """Write into an empty folder what `load`, and `load_searcher` of the scann package, read; it may be moved.

        A compact index has no vectors of its own: who opens it has them.
        """
        self.searcher.serialize(str(folder), True)
        if self.compact:
            return
        np.save(folder / "dataset.npy", self.whole.candidates, allow_pickle=False)
        np.save(folder / ROWS, self.whole.rows, allow_pickle=False)
        (folder / FACTS).write_text(
            json.dumps({"candidates": len(self.whole.rows), "width": self.whole.candidates.shape[1]})
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open a saved index, memory-mapped; raises AmzrecError where it is missing or damaged."""
        try:
            facts = json_value((folder / FACTS).read_text())
            rows = np.load(folder / ROWS, allow_pickle=False)
            candidates = np.load(folder / "dataset.npy", mmap_mode="r", allow_pickle=False)
            if candidates.shape != (facts["candidates"], facts["width"]):
                raise ValueError(f"it holds {candidates.shape} and not {facts}")
            return cls(scann_ops().load_searcher(str(folder), assets_backcompat_shim=False), candidates, rows)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise AmzrecError(
                f"{folder} is not a ScaNN index, or damaged ({error}): amzrec export writes one"
            ) from error

    def search(
        self, queries: Floats, k: int, exclude: Exclude | None = None, votes: Votes | None = None
    ) -> tuple[Rows, Floats]:
        """See Index.search; queries with many exclusions, or that ScaNN left short, are answered exactly.

        Products with votes are scored whether ScaNN finds them or not, so that votes count in full.
        """
        rows = self.whole.rows
        hidden = (
            [columns_of(rows, e) for e in exclude] if exclude is not None else [np.zeros(0, np.intp)] * len(queries)
        )
        top = np.zeros((len(queries), k), np.int32)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        left = len(rows) if self.keep is None else int(self.keep.sum())
        spread = 1 if left == len(rows) else 2 * len(rows) / max(left, 1)  # to ask for, for each that may be answered
        exactly = np.array([len(columns) > WIDE or spread * (k + len(columns)) > DEEP for columns in hidden], bool)
        near = np.flatnonzero(~exactly)
        if len(near) and k:
            wanted = min(int(spread * (k + max(len(hidden[i]) for i in near))), len(rows))
            for i, columns, values in zip(near, *self._neighbours(queries[near], wanted), strict=True):
                found = columns[~np.isnan(values)]
                found = found[self._shown(found, hidden[i])]
                if len(found) < k and len(found) < min(k, self._most(left, hidden[i])):  # whatever votes would add
                    exactly[i] = True
                    continue
                mine = votes if votes is None or len(votes) == 1 else votes.take(np.array([i]))
                columns, values = self._scored(queries[i], found, mine, hidden[i])
                order = np.lexsort((columns, -values))[:k]
                top[i, : len(order)], scores[i, : len(order)] = rows[columns[order]], values[order]
        if exactly.any():
            if self.quick:
                raise Slow
            rest = np.flatnonzero(exactly)
            excluded = [exclude[int(i)] for i in rest] if exclude else None
            voted = None if votes is None else votes.take(rest)
            top[rest], scores[rest] = self.exact.search(queries[rest], k, excluded, voted)
        return top, scores

    def _shown(self, columns: Array, hidden: Array) -> Bools:
        """Tell which columns [n] may be answered: those that are kept, and not among the `hidden` ones."""
        shown: Bools = ~among(columns, hidden)
        return shown if self.keep is None else shown & self.keep[columns]

    def _most(self, left: int, hidden: Array) -> int:
        """Tell how many of the candidates that are `left` may be answered where some are `hidden`."""
        return left - len(np.unique(hidden if self.keep is None else hidden[self.keep[hidden]]))

    def _scored(self, query: Floats, found: Array, votes: Votes | None, hidden: Array) -> tuple[Array, Floats]:
        """Score exactly what ScaNN found for a query, and all others with votes; return their columns, each once."""
        if votes is None:
            return found, np.asarray(self.whole.candidates[found] @ query, np.float32)
        place, there = find(self.whole.rows, votes.products.items)
        there &= self._shown(place, hidden)
        voted = place[there]
        every = np.concatenate([voted, found[~among(found, voted)]])
        scores = np.asarray(self.whole.candidates[every] @ query, np.float32)
        scores[: len(voted)] += votes.weights[there]
        return every, scores

    def _neighbours(self, queries: Floats, wanted: int) -> tuple[Array, Array]:
        """Ask ScaNN for columns and scores [B, wanted or more]; what it does not find has the score NaN."""
        least = min(SPARE * wanted if self.compact else wanted, len(self.whole.rows))
        columns, values = self.searcher.search_batched(
            np.ascontiguousarray(queries, np.float32),
            final_num_neighbors=least,
            pre_reorder_num_neighbors=max(least, min(self.effort.reorder(wanted), len(self.whole.rows))),
            leaves_to_search=self.effort.leaves,
        )
        return columns.astype(np.intp), values
