"""The run folder: what a training left behind, described by run.json."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

from amzrec.errors import AmzrecError
from amzrec.store.documents import Document, json_value
from amzrec.store.manifest import Damaged, Manifest, damaged, read_manifest
from amzrec.store.numbered import Held, coming_numbers, hold, place_of, standing
from amzrec.store.ownership import RUN_FOLDER
from amzrec.store.protocol import DataProtocol
from amzrec.store.remembered import Files
from amzrec.store.vectors import INDEX, REMEDY, VECTORS, Vectors, as_written, check_file, read_vectors

RUN = "run.json"
METRICS = "metrics.json"
PLOTS = "plots"
LAST_PICTURE = "coverage.png"  # that `evaluate` draws
CHECKPOINTS = "checkpoints"
RUNS = Path("runs")
TASKS = ("rating", "retrieval")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ancestor:
    """A run that another one was trained on: which it was, and what it had seen."""

    run: str  # path of its folder at that time
    identity: str  # of what it had learned, see `identity`
    finished: float  # unix seconds
    source: str | None
    fingerprint: str | None  # of the source
    reviews: int  # that it was fitted on
    updates: int = 0  # by `amzrec update`, whose reviews its weights were not trained on


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunInfo(Document):
    """run.json: what a training used, and what it found."""

    RENAMED: ClassVar[dict[str, str]] = {"config": "recipe"}

    finished: float  # unix seconds
    recipe: dict[str, Any] = dataclasses.field(default_factory=dict)  # the settings that were used, none left open
    trained: tuple[str, ...] = TASKS  # tasks with a weight and data to learn from
    protocol: DataProtocol | None = None  # of the dataset; None: not known, so not compared
    dataset: str | None = None  # path of the dataset folder
    fingerprint: str | None = None  # of the source
    source: str | None = None
    fit_parts: tuple[str, ...] = ("train", "valid")  # parts of the dataset that the vectors are fitted on
    best_epochs: dict[str, int] = dataclasses.field(default_factory=dict)  # by task; 0: as it started
    half_life: float | None = None  # days, of the popularity that retrieval starts from; None: all time
    all_time_now: bool = False  # whether answers as of now read the popularity of all time, not of the end
    trend: bool = False  # whether stars follow the trend of their period
    svd_start: bool = False  # whether products started at singular vectors
    memory: dict[str, Any] | None = None  # what pairs are remembered by: kind, ridge, share; None: there is none
    attention: dict[str, Any] | None = None  # of --history sequence: epochs, and its share of the retrieval score
    moment: dict[str, Any] | None = None  # how the moment moves the stars: see Moment; None: not at all
    evaluated: dict[str, Any] | None = None  # of a run without test reviews: figures of its recipe (store/recipe.py)
    updates: tuple[dict[str, Any], ...] = ()  # by `amzrec update`, the first one first: from which run, with what
    ancestors: tuple[Ancestor, ...] = ()  # the runs that it was trained on (`--from`), the first one first
    seconds: float = 0.0  # that the training took
    versions: dict[str, str] = dataclasses.field(default_factory=dict)  # of amzrec, Python and packages
    identity: str = ""  # of the run, as in its manifest; "": it is of before there were manifests

    @property
    def untested(self) -> bool:
        """Whether the dataset held out no test reviews (`--test 0`)."""
        return self.protocol is not None and self.protocol.untested

    @property
    def untrained(self) -> list[str]:
        """The tasks that were not trained: their figures are those of the start, biases or popularity.

        With `--features ids` both tasks read the same dimensions, so that training one moves the other: none then.
        """
        shared = self.recipe.get("features") == "ids"
        return [] if shared else [task for task in TASKS if task not in self.trained]


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run folder, opened."""

    path: Path  # as it was named
    info: RunInfo
    held: Held | None = dataclasses.field(default=None, repr=False, compare=False)  # None: not opened from a folder

    @property
    def folder(self) -> Path:
        """The folder that was opened, links followed: it stays what it is, whatever `path` leads to later."""
        return self.held.folder if self.held is not None else self.path

    @property
    def place(self) -> Path:
        """The absolute path that the run is known by: runs/joint, where its files are in runs/.joint/3."""
        return place_of(self.folder.resolve())

    @property
    def name(self) -> str:
        """The last part of `place`."""
        return self.place.name

    @cached_property
    def vectors(self) -> Vectors:
        """The learned vectors, memory-mapped; AmzrecError where they are damaged."""
        return self._read(verify=False)

    def _read(self, verify: bool) -> Vectors:
        vectors = read_vectors(self.folder, self.manifest, verify, self.path)
        object.__setattr__(vectors, "held", self.held)  # their files stay as long as they are used
        return vectors

    @cached_property
    def manifest(self) -> Manifest | None:
        """What the files of the run must be; None for one of before there were manifests."""
        return read_manifest(self.folder, RUN_FOLDER, self.info.identity, self.path)

    def remembered(self) -> Self:
        """Remember, right after they were written, that the vectors are whole: the first answer then reads less."""
        as_written(self.folder, self.manifest).remember(wait=True)
        return self

    def check(self, name: str) -> None:
        """Raise AmzrecError where a small file is not what the manifest says now; one that is not listed is let be."""
        manifest = read_manifest(self.folder, RUN_FOLDER, self.info.identity, self.path)
        try:
            check_file(self.folder, name, manifest)
        except Damaged as error:
            if manifest != read_manifest(self.folder, RUN_FOLDER, self.info.identity, self.path):
                return self.check(name)  # it was replaced this very moment
            raise damaged(self.path, RUN_FOLDER, error) from error

    def check_below(self, part: str) -> None:
        """Compare all files of a folder within the run with their checksums, once on this machine (remembered.py).

        Raises AmzrecError where one is not what was written.
        """
        if self.manifest is None:
            return
        names = [name for name in self.manifest.files if name.startswith(f"{part}/")]
        try:
            found = Files(self.folder, names, "".join(f"{name} {self.manifest.files[name]}\n" for name in names))
            if not found.are_known():
                for name in names:
                    self.manifest.check_content(self.folder, name)
                found.remember()
        except (Damaged, OSError) as error:
            raise damaged(self.path, RUN_FOLDER, error) from error

    def verified(self) -> Vectors:
        """Open the vectors after all checksums were compared anew; AmzrecError where one is another."""
        return self._read(verify=True)


def identity(run: Run) -> str:
    """Return hex digits that tell a run from any other; of one without a manifest, what it has learned."""
    return run.info.identity or hashlib.sha256((run.folder / VECTORS / INDEX).read_bytes()).hexdigest()[:32]


def open_run(path: Run | Path | str | None = None) -> Run:
    """Open a finished run folder, or the latest one under `runs/`; raises AmzrecError with the next thing to type."""
    if isinstance(path, Run):
        return path
    path = latest_run() if path is None else Path(path)
    held = hold(path)
    if held is None and not path.exists():
        known = ", ".join(str(p) for p in finished_runs()) or "none yet: make one with: amzrec train"
        raise AmzrecError(f"there is no run folder {path}; finished runs here: {known}")
    if held is None:
        raise AmzrecError(
            f"{path} is not a finished run folder (it has no {RUN}): make one with: amzrec train --run {path}"
        )
    run = Run(path, RunInfo.read(held.folder / RUN, REMEDY), held)
    run.check(RUN)
    return run


def is_measured(run: Run) -> bool | None:
    """Tell whether a run was evaluated, to the last picture; None where it has no test reviews to be measured on."""
    if run.info.untested or run.info.updates:
        return None
    return (run.folder / METRICS).is_file() and (run.folder / PLOTS / LAST_PICTURE).is_file()


def finished_runs(root: Path = RUNS) -> list[Path]:
    """List the finished run folders under `runs/`, the oldest first; damaged ones are left out."""
    finished, places = [], list[Path]()
    if root.is_dir():
        places += [file.parent for file in root.glob(f"*/{RUN}") if not file.parent.name.startswith(".")]
        homes = [root / path.name[1:] for path in root.iterdir() if path.name.startswith(".") and len(path.name) > 1]
        places += [place for place in homes if not place.exists() and coming_numbers(place)]
    for place in places:
        try:
            facts = json_value(((standing(place) or place) / RUN).read_text())
            finished.append((float(facts["finished"]), place))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return [path for _, path in sorted(finished)]


def latest_run(root: Path = RUNS) -> Path:
    """Return the run that finished last; raises AmzrecError where there is none."""
    runs = finished_runs(root)
    if not runs:
        raise AmzrecError(f"there is no finished run under {root}{os.sep}: make one with: amzrec train")
    return runs[-1]
