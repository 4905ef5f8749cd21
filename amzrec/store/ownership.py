"""What amzrec may replace: folders and files that it wrote itself, and nothing else."""

from __future__ import annotations

import csv
import dataclasses
import fnmatch
import re
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

from amzrec.errors import AmzrecError, is_utf8
from amzrec.store.documents import json_value
from amzrec.store.locks import TOKEN
from amzrec.store.numbered import is_ours

LEFT = re.compile(rf"(^|/)\.[^/]+\.{TOKEN.pattern}\.")  # of `scratch_folder`, `whole_file` and `claim`
MANIFEST = "manifest.json"  # see manifest.py


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of folder that amzrec writes."""

    name: str
    marker: str  # the JSON file that tells that amzrec wrote the folder …
    keys: frozenset[str]  # … and keys that it then has
    files: tuple[str, ...]  # all that it writes there, as patterns of paths within the folder; * stands for / too
    flag: str = "--out"  # which names the folder
    again: str = "make it again"  # what to do where a folder is damaged; {folder} stands for its name
    listed: bool = True  # whether a manifest lists its files; not where others read all files of the folder

    def remedy(self, folder: Path) -> str:
        """Say how a damaged folder is made again."""
        return self.again.format(folder=shlex.quote(str(folder)))

    def writes(self, path: str) -> bool:
        """Tell whether amzrec writes a file of this path into such a folder."""
        return any(fnmatch.fnmatch(path, pattern) for pattern in self.files)

    def marks(self, folder: Path) -> bool:
        """Tell whether this kind of folder stands there; a damaged marker counts, another document does not."""
        file = folder / self.marker
        if not file.is_file():
            return False
        try:
            document = json_value(file.read_bytes())
        except (ValueError, OSError):
            return True
        return isinstance(document, dict) and self.keys <= set(document)


DATASET_FOLDER = Kind(
    "dataset folder", "dataset.json", frozenset({"source", "protocol", "counts"}),
    ("dataset.json", *(f"{n}.parquet" for n in ("train", "valid", "test", "customers", "products", "rejects"))),
    again="prepare it again: amzrec prepare SOURCE --out {folder} --overwrite",
)  # fmt: skip
UNFINISHED_TRAINING = (  # removed as it becomes a run
    "state.json", "memory.npz", "attention.npz", "watch.npz", "rating.npz", "retrieval.npz", "rating.tables.npz",
    "retrieval.tables.npz",
)  # fmt: skip
RUN_FOLDER = Kind(
    "run folder", "run.json", frozenset({"finished"}),
    ("run.json", "history.csv", "metrics*.json", "recipe.json", "vectors/*.npy", "vectors/vectors.json",
     "weights/*.npy", "weights/weights.json", "plots/*.png", "checkpoints/*", "tensorboard/*", *UNFINISHED_TRAINING),
    "--run",
    "train again: amzrec train SOURCE --run {folder} --overwrite",
)  # fmt: skip
EXPORT_FOLDER = Kind(
    "export folder", "export.json", frozenset({"run", "products"}),
    ("export.json", "README.md", "saved_model/*", "scann/*", "onnx/*"),
    again="export it again: amzrec export RUN --out {folder} --overwrite",
)  # fmt: skip
RECOMMENDATIONS_FOLDER = Kind(  # readers of Parquet leave out what begins with an underscore
    "folder of recommendations", "_recommendations.json", frozenset({"run", "customers", "rows"}),
    ("_recommendations.json", "part-*.parquet"),
    listed=False,
)  # fmt: skip

TUNING_FOLDER = Kind(
    "tuning folder", "tune.json", frozenset({"study", "objectives"}),
    ("tune.json", "recipe.json", "front.png", "study.db*", ".study.*",
     ".tune.json.*", ".recipe.json.*", ".front.png.*"),
)  # fmt: skip

KINDS = (DATASET_FOLDER, RUN_FOLDER, EXPORT_FOLDER, RECOMMENDATIONS_FOLDER, TUNING_FOLDER)


def check_folder(out: Path, kind: Kind, overwrite: bool, sources: Iterable[str | Path | None] = ()) -> None:
    """Raise AmzrecError unless a folder of this kind may be written to `out`.

    A folder that exists must be empty, or be replaced by `overwrite` and hold nothing but what amzrec wrote. Never
    replaced are links, files, and folders that hold one of the `sources` or in which we stand.
    """
    elsewhere = f"choose another {kind.flag}"
    if not is_utf8(str(out.absolute())):
        raise AmzrecError(f"the name of {out}, or of a folder above it, is not UTF-8: {elsewhere}")
    if out.is_symlink() and not (kind is RUN_FOLDER and is_ours(out)):
        raise AmzrecError(f"{out} is a link to {out.readlink()}, and amzrec replaces no links: {elsewhere}")
    check_above(out, f"the {kind.name}", elsewhere)
    if not out.exists():
        return
    if not out.is_dir():
        raise AmzrecError(f"{out} is a file, which amzrec does not replace: {elsewhere}")
    for source in local(sources):
        if holds(out, source):
            raise AmzrecError(f"{out} holds the source {source}, which amzrec does not replace: {elsewhere}")
    for place, what in ((Path.cwd(), "working directory"), (Path.home(), "home folder")):
        if holds(out, place):
            raise AmzrecError(f"{out} holds your {what}, which amzrec does not replace: {elsewhere}")
    if not any(out.iterdir()):
        return
    if not kind.marks(out):
        raise AmzrecError(
            f"{out} is no {kind.name} (it has no {kind.marker} of amzrec), so it is not replaced: {elsewhere}"
        )
    if foreign := foreign_files(out, kind):
        raise AmzrecError(
            f"the {kind.name} {out} holds {foreign[0]}, which amzrec did not write, so it is not replaced: move "
            f"{'it' if len(foreign) == 1 else f'that and {len(foreign) - 1:,} more'} away, or {elsewhere}"
        )
    if not overwrite:
        raise AmzrecError(f"the {kind.name} {out} exists already: {elsewhere}, or add --overwrite to replace it")


def check_above(place: Path, what: str, elsewhere: str) -> None:
    """Raise AmzrecError where a file, or a link to nothing, stands where a folder above `place` would be."""
    above = next((above for above in place.parents if above.exists() or above.is_symlink()), None)
    if above is not None and not above.is_dir():
        kind = "a link to nothing" if above.is_symlink() and not above.exists() else "a file"
        raise AmzrecError(f"cannot write {what} {place}: {above} is {kind}. To go on, {elsewhere}")


def foreign_files(folder: Path, kind: Kind) -> list[str]:
    """List the files and links in a folder that are none of its kind, by their paths within it.

    What a process that was killed left unfinished there is ours too.
    """
    paths = [str(file.relative_to(folder)) for file in sorted(folder.rglob("*")) if file.is_symlink() or file.is_file()]
    return [path for path in paths if path != MANIFEST and not kind.writes(path) and not LEFT.search(path)]


def local(sources: Iterable[str | Path | None]) -> list[Path]:
    """Return those sources that stand on a disk; of a glob, the folder where it begins."""
    paths = []
    for source in sources:
        if source is None or str(source) == "-" or ":" in str(source)[2:]:  # tfds:name, s3://bucket
            continue
        path = Path(source)
        while any(character in path.name for character in "*?[") and not path.exists():
            path = path.parent
        paths.append(path)
    return paths


def holds(folder: Path, path: Path) -> bool:
    """Tell whether a path is this folder or stands in it, links followed."""
    return path.resolve().is_relative_to(folder.resolve())


def check_file(file: Path, what: str, ours: Callable[[Path], bool], overwrite: bool = True) -> None:
    """Raise AmzrecError unless `what` may be written to `file`: nothing stands there, or what `ours` knows as ours."""
    if file.is_symlink():
        raise AmzrecError(f"{file} is a link to {file.readlink()}, and amzrec replaces no links: name another file")
    if file.is_dir():
        raise AmzrecError(f"{file} is a folder: name a file in it for {what}")
    check_above(file, what, "name another file")
    if not file.exists():
        return
    if file.stat().st_size and not ours(file):
        raise AmzrecError(
            f"{file} exists, and amzrec did not write it, so it is not replaced by {what}: name another file"
        )
    if not overwrite:
        raise AmzrecError(f"{file} exists already: choose another name, or add --overwrite to replace it")


# --- files that amzrec wrote, known again by what is in them

SOFTWARE = "amzrec"  # stands in the pictures and Parquet files that amzrec writes, under the key Software
RECOMMENDATIONS = ("customer_id", "rank", "product_id", "title", "score", "stars")  # the last one where there are stars


def is_picture(file: Path) -> bool:
    """Tell whether this is a PNG that amzrec drew."""
    with file.open("rb") as stream:
        start = stream.read(4096)
    return start.startswith(b"\x89PNG") and f"Software\0{SOFTWARE}".encode() in start


def is_report(file: Path) -> bool:
    """Tell whether this is a page that `amzrec report` wrote."""
    with file.open("rb") as stream:
        start = stream.read(4096)
    return start.startswith(b"<!doctype html>") and f'name="generator" content="{SOFTWARE} report"'.encode() in start


CARD = f"{SOFTWARE} card"  # stands at the beginning of model cards


def is_card(file: Path) -> bool:
    """Tell whether this is a model card that `amzrec card` wrote, in Markdown or as a page."""
    with file.open("rb") as stream:
        start = stream.read(4096)
    marks = f"<!-- {CARD} -->", f'name="generator" content="{CARD}"'
    return start.startswith(marks[0].encode()) or (start.startswith(b"<!doctype html>") and marks[1].encode() in start)


def is_recommendations(file: Path) -> bool:
    """Tell whether this is a file of `amzrec recommend --all`, by its columns."""
    columns: list[str] = []
    try:
        if file.suffix == ".parquet":
            import pyarrow.parquet as pq

            columns = pq.read_schema(file).names
        else:
            with file.open(encoding="utf-8", newline="") as stream:
                first = stream.readline()
            columns = list(json_value(first)) if file.suffix == ".jsonl" else next(csv.reader([first]), [])
    except (ValueError, OSError, TypeError, csv.Error):
        return False
    return {"customer_id", "rank", "product_id", "score"} <= set(columns) <= set(RECOMMENDATIONS)


def is_comparison(file: Path) -> bool:
    """Tell whether this is the JSON document of `amzrec compare`."""
    try:
        document = json_value(file.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return False
    return isinstance(document, dict) and {"models", "baselines", "differences", "runs"} <= set(document)
