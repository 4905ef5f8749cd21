"""Which index answers: exact for catalogues that are searched fast enough, ScaNN tuned to a recall above."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from amzrec.answers.recommender import Recommender
from amzrec.answers.scann import TREE_FROM, Effort, ScannIndex, scann_ops, without_scann
from amzrec.arrays import Floats, Rows
from amzrec.errors import AmzrecError
from amzrec.store.documents import Document
from amzrec.store.folders import private_folder, scratch_folder
from amzrec.store.vectors import INDEX, VECTORS

EXACT_UNTIL = TREE_FROM  # candidates: below, a query costs at most some 1 ms, as the rest of an answer does (measured)
INDEXES = ("auto", "exact", "scann")
SAMPLE = 400  # queries of customers: every other one to choose by, the rest to tell what was chosen
SHORT, LONG = 10, 100  # products of the lists whose recall is looked at
LEAVES = (0.02, 0.05, 0.1, 0.2, 0.4)  # shares of the tree; then all of it
LEASTS = (100, 200, 300, 500, 1000, 2000, 5000)  # rescored hits for a short list …
TIMES = (5, 10, 20, 40)  # … and for each product of a long one
TUNED = "tuned.json"

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tried:
    """What was tried: leaves of the tree that are searched, hits that are rescored, and the recall of lists of k."""

    leaves: int  # 0: there is no tree
    rescored: int
    k: int
    recall: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuned(Document):
    """What was chosen for ScaNN, and what it is worth on queries that nothing was chosen by."""

    wanted: float  # recall
    recall_at_10: float
    recall_at_100: float
    leaves: int  # 0: there is no tree
    least: int  # see Effort
    times: int
    curve: tuple[Tried, ...]  # in the order in which they were tried

    @property
    def effort(self) -> Effort:
        """What the index is searched with."""
        return Effort(self.leaves or None, self.least, self.times)

    def told(self) -> str:
        """Say what the index is worth, and what was tried."""
        curve = "; ".join(
            f"{each.leaves} leaves, {each.rescored} rescored: {each.recall:.3f} at {each.k}" for each in self.curve
        )
        return (
            f"recall {self.recall_at_10:.3f} at 10, {self.recall_at_100:.3f} at 100, wanted {self.wanted:g} ({curve})"
        )


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A recommender, and how it searches."""

    recommender: Recommender
    tuned: Tuned | None = None  # None: exactly

    def document(self) -> dict[str, Any]:
        """Describe the index for people and programs."""
        if self.tuned is None:
            return {"kind": "exact"}
        return {"kind": "scann"} | {k: v for k, v in self.tuned.to_json().items() if k != "format_version"}


def choose(recommender: Recommender, run: Path, kind: str, recall: float, cache: Path, say: Say) -> Chosen:
    """Give a recommender the index of this kind: auto, exact or scann.

    `auto` is exact below EXACT_UNTIL candidates, and where ScaNN cannot be used; AmzrecError where `scann` cannot. An
    index is built once for the vectors of the run folder `run`, kept in the folder `cache`, and opened from there.
    """
    count = len(recommender.candidates)
    if kind == "exact" or (kind == "auto" and count < EXACT_UNTIL) or not count:
        return Chosen(recommender)
    reason = without_scann()
    if reason is not None:
        if kind == "scann":
            raise AmzrecError(f"--index scann cannot be used here: {reason}. Use --index exact")
        say(f"{count:,} products are searched exactly, without ScaNN: {reason}")
        return Chosen(recommender)
    folder = cache / f"scann-{key_of(run, recall)}"
    found = opened(folder, recommender)
    if found is None:
        say(f"building the ScaNN index of {count:,} products; it is kept in {folder}")
        index = ScannIndex.build(recommender.candidate_vectors, recommender.candidates, compact=True)
        tuned = tune(index, sample(recommender), recall)
        found = index.trying(tuned.effort), tuned
        keep(folder, *found, say)
    index, tuned = found
    say(f"ScaNN index of {count:,} products: {tuned.told()}")
    return Chosen(Recommender(recommender.vectors, index), tuned)


def key_of(run: Path, recall: float) -> str:
    """Tell the index of these vectors, and of this version of ScaNN, from any other."""
    parts = [(run / VECTORS / INDEX).read_bytes(), f"{recall} {importlib.metadata.version('scann')} 2".encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]


def opened(folder: Path, recommender: Recommender) -> tuple[ScannIndex, Tuned] | None:
    """Open an index that was kept; None where there is none, or it cannot be read."""
    try:
        tuned = Tuned.read(folder / TUNED, "it is built again")
        searcher = scann_ops().load_searcher(str(folder), assets_backcompat_shim=False)
    except Exception:  # whatever ScaNN raises for files that it cannot read: they are made again
        return None
    candidates = recommender.candidate_vectors, recommender.candidates
    return ScannIndex(searcher, *candidates, tuned.effort, compact=True), tuned


def keep(folder: Path, index: ScannIndex, tuned: Tuned, say: Say) -> None:
    """Keep an index, whole or not at all; where there is no place for it, it is only said."""
    try:
        private_folder(folder.parent)
        with scratch_folder(folder.parent) as scratch:
            whole = scratch / "index"
            whole.mkdir()
            index.save(whole)
            tuned.write(whole / TUNED)
            shutil.rmtree(folder, ignore_errors=True)  # one that could not be read
            try:
                whole.rename(folder)
            except OSError:
                if not folder.is_dir():  # else another process was faster
                    raise
    except (OSError, AmzrecError) as error:
        say(f"the index could not be kept for the next time ({error})")


def sample(recommender: Recommender) -> Floats:
    """Draw the queries of customers at random, [SAMPLE, d], the same ones for the same run."""
    queries = recommender.vectors.retrieval_query
    count = min(SAMPLE, len(queries))
    return np.asarray(queries[np.sort(np.random.default_rng(0).choice(len(queries), count, replace=False))])


def tune(index: ScannIndex, queries: Floats, wanted: float) -> Tuned:
    """Find the least effort that reaches a recall in short and in long lists, on every other one of the queries [n, d].

    First as few leaves as lose at most half of what may be lost where all hits are rescored that may be; then as few
    rescored hits. Where the recall is not reached it is the most that is tried.
    """
    exact = index.whole.search(queries, LONG)[0]
    choosing, telling = slice(0, None, 2), slice(1, None, 2)
    tried = list[Tried]()

    def reaches(effort: Effort, k: int, bound: float) -> bool:
        found = recall_of(index.trying(effort), queries[choosing], exact[choosing], k)
        tried.append(Tried(leaves=effort.leaves or 0, rescored=effort.reorder(k), k=k, recall=found))
        return found >= bound

    most = LEASTS[-1], TIMES[-1]
    trees = shares(index.leaves)
    leaves = next((n for n in trees if reaches(Effort(n, *most), LONG, (1 + wanted) / 2)), trees[-1])
    least = next((n for n in LEASTS if reaches(Effort(leaves, n, 1), SHORT, wanted)), LEASTS[-1])
    times = next((n for n in TIMES if reaches(Effort(leaves, 1, n), LONG, wanted)), TIMES[-1])
    chosen = index.trying(Effort(leaves, least, times))
    told = [recall_of(chosen, queries[telling], exact[telling], k) for k in (SHORT, LONG)]
    return Tuned(
        wanted=wanted,
        recall_at_10=told[0],
        recall_at_100=told[1],
        leaves=leaves or 0,
        least=least,
        times=times,
        curve=tuple(tried),
    )


def shares(leaves: int | None) -> list[int | None]:
    """List how many leaves of a tree are tried, few ones first; [None] where there is no tree."""
    if leaves is None:
        return [None]
    return [*sorted({max(1, round(share * leaves)) for share in LEAVES} | {leaves})]


def recall_of(index: ScannIndex, queries: Floats, exact: Rows, k: int) -> float:
    """Return which share of the k best candidates [n, k] an index finds, without those that there are not."""
    found = index.search(queries, k)[0]
    shares = [
        len(np.intersect1d(mine, theirs[theirs > 0])) / max(1, int((theirs > 0).sum()))
        for mine, theirs in zip(found, exact[:, :k], strict=True)
    ]
    return float(np.mean(shares)) if shares else 1.0
