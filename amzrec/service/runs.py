"""The runs that are served: opened, checked, and swapped while answers are made from the ones before."""

from __future__ import annotations

import dataclasses
import logging
import threading
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from amzrec.answers.listing import Document
from amzrec.answers.lists import Wanted, best_products
from amzrec.answers.recommender import Recommender
from amzrec.answers.scann import ScannIndex
from amzrec.answers.tuning import EXACT_UNTIL, choose
from amzrec.errors import AmzrecError
from amzrec.page.summary import computed
from amzrec.store.filerows import FileRows
from amzrec.store.folders import cache_folder
from amzrec.store.run import RUN, Run, open_run
from amzrec.store.strings import Strings
from amzrec.store.vectors import STRINGS, Vectors

LOG = logging.getLogger("amzrec.service")

BY_ROW = frozenset(  # tables of which an answer needs the row of its customer, or those of few products
    {"retrieval_query", "rating_query", "rating_candidate", "query_base", "history_bag", "history_residual"}
)

Stamp = tuple[str, int, int]


@dataclasses.dataclass(frozen=True)
class Served:
    """One run, ready to answer."""

    name: str
    recommender: Recommender
    run: Run
    index: Document = dataclasses.field(default_factory=lambda: {"kind": "exact"})  # how it searches

    @classmethod
    def open(cls, path: Path | None, index: str = "exact", recall: float = 0.98) -> Served:
        """Open a run (None: the latest), compare all checksums, and let it answer once; AmzrecError where it cannot."""
        run = open_run(path)
        vectors = plain(run.verified())
        real = dataclasses.replace(run, path=run.folder)
        chosen = choose(Recommender(vectors), run.folder, index, recall, cache_folder(), LOG.info)
        served = cls(run.name, chosen.recommender, real, chosen.document())
        if not len(vectors.candidates):
            raise AmzrecError(f"run {run.path} has no products to recommend: train on reviews")
        best_products(served.recommender, vectors.customer_ids[len(vectors.customer_ids) - 1], Wanted(k=1))
        return served

    @cached_property
    def quick(self) -> Recommender | None:
        """What answers in about a millisecond, or raises Slow; None where nothing does."""
        index = self.recommender.index
        if isinstance(index, ScannIndex):
            return self.recommender.searching(index.quickly())
        return self.recommender if len(self.recommender.candidates) <= EXACT_UNTIL else None

    @cached_property
    def figures(self) -> dict[str, Any]:
        """What the page shows of the vectors; it takes a moment, once."""
        return computed(self.recommender)


def plain(vectors: Vectors) -> Vectors:
    """Return the same vectors as plain arrays, still mapped, whose single values numpy finds several times faster.

    Large tables of which an answer needs a few rows are read row by row.
    """
    arrays: dict[str, Any] = {
        name: FileRows(array) if name in BY_ROW and isinstance(array, np.memmap) else np.asarray(array)
        for name, array in vectors.arrays().items()
    }
    for name in STRINGS:
        strings: Strings | None = getattr(vectors, name)
        if strings is not None:
            parts = (strings.blob, strings.offsets, strings.order)
            arrays[name] = Strings(*(np.asarray(part) for part in parts))
    return dataclasses.replace(vectors, **arrays)


@dataclasses.dataclass(frozen=True)
class Runs:
    """The run that answers, and the one that answers a share of the customers: what one request is answered from."""

    main: Served
    also: Served | None = None
    share: float = 0.0

    def of(self, customer_id: str) -> Served:
        """Return the run that answers a customer, always the same one while the share is the same."""
        if self.also is not None and zlib.crc32(customer_id.encode()) < self.share * 2**32:
            return self.also
        return self.main

    def all(self) -> list[tuple[Served, float]]:
        """List the runs, each with its share of the customers."""
        if self.also is None:
            return [(self.main, 1.0)]
        return [(self.main, 1 - self.share), (self.also, self.share)]


class Shelf:
    """Where requests take the runs from: `now` is replaced as a whole, so that no answer mixes two."""

    def __init__(
        self,
        path: Path | None,
        also: Path | None = None,
        share: float = 0.0,
        index: str = "exact",
        recall: float = 0.98,
    ) -> None:
        """Open the runs; AmzrecError where one cannot be served. See `choose` for `index` and `recall`."""
        self.path, self.also, self.share = path, also, share
        self.search = index, recall
        self.loading = threading.Lock()
        self.stamp = self.look()
        self.now = self._open()

    def _open(self) -> Runs:
        main = Served.open(self.path, *self.search)
        if self.also is None:
            return Runs(main)
        also = Served.open(self.also, *self.search)
        if also.name == main.name:
            raise AmzrecError(
                f"--also {self.also} and the run itself are both called {main.name}, and answers could not be told "
                "apart: give the folders two names"
            )
        return Runs(main, also, self.share)

    def reload(self) -> Runs:
        """Open the runs again where they lie now, and answer from them; AmzrecError, and the old ones stay, if not."""
        with self.loading:
            stamp = self.look()
            self.now = self._open()
            self.stamp = stamp
        return self.now

    def look(self) -> list[Stamp]:
        """Return what changes when another run lies, or is linked, where the runs are."""
        return [stamp_of(self.path), *([] if self.also is None else [stamp_of(self.also)])]


def stamp_of(path: Path | None) -> Stamp:
    """Tell a run folder (None: the latest) from any other that stood at its place."""
    try:
        folder = open_run(path).folder
        facts = (folder / RUN).stat()
    except (AmzrecError, OSError):
        return "", 0, 0
    return str(folder), facts.st_ino, facts.st_mtime_ns
