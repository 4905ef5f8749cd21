"""What a source string points at: a file, a folder, a glob, a zip or standard input, as local files."""

from __future__ import annotations

import dataclasses
import glob
import shutil
import sys
import zipfile
from pathlib import Path

from amzrec.errors import AmzrecError
from amzrec.reviews.sources import movielens
from amzrec.reviews.textfile import fingerprint

TABLES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
STDIN = "-"


@dataclasses.dataclass(frozen=True)
class Location:
    """Where a source is: a folder that tf.data.Dataset.save wrote, or files that are read as one table."""

    name: str  # as the person gave it
    files: tuple[Path, ...] = ()
    saved: Path | None = None  # a folder that tf.data.Dataset.save wrote


def locate(source: str, scratch: Path) -> Location:
    """Find the files of a source; zips and standard input are copied into the folder `scratch`.

    Raises AmzrecError where there is nothing, and for folders and zips without a known layout.
    """
    if source == STDIN:
        return Location(source, (spooled(scratch),))
    if any(c in source for c in "*?[") and not Path(source).exists():
        files = tuple(Path(p) for p in sorted(glob.glob(source, recursive=True)) if Path(p).is_file())
        if not files:
            raise AmzrecError(f"no file matches {source}")
        return Location(source, files)
    path = Path(source)
    if not path.exists():
        raise AmzrecError(f"there is no file or folder {source}: name a file of reviews, or nothing for the sample")
    if path.is_dir():
        return in_folder(source, path)
    if path.suffix.lower() == ".zip":
        return in_folder(source, unpacked(path, scratch))
    return Location(source, (path,))


def in_folder(source: str, folder: Path) -> Location:
    """Find what a folder holds: a dataset saved by tf.data, MovieLens (also one level down), or table files."""
    for inner in (folder, *sorted(p for p in folder.iterdir() if p.is_dir())):
        if (inner / "dataset_spec.pb").is_file():
            return Location(source, saved=inner)
        if ratings := movielens.reviews_file(inner):
            return Location(source, (ratings,))
    files = tuple(p for p in sorted(folder.rglob("*")) if p.is_file() and is_table(p.relative_to(folder)))
    if not files:
        names = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise AmzrecError(
            f"{source} has no known layout (it holds {names}): folders of MovieLens, of tf.data.Dataset.save and of "
            f"tables ({', '.join(TABLES)}, also .gz) are read"
        )
    return Location(source, files)


def is_table(path: Path) -> bool:
    """Return whether the path of a file in a folder is one of a table, and neither hidden nor in a hidden folder."""
    hidden = any(name.startswith((".", "_")) for name in path.parts)
    return path.name.lower().removesuffix(".gz").endswith(TABLES) and not hidden


def unpacked(path: Path, scratch: Path) -> Path:
    """Copy the files of a zip into a new folder, by their last names."""
    folder = scratch / f"zip-{path.stem}"
    folder.mkdir()
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = Path(member.filename).name
                if not member.is_dir() and not name.startswith("."):
                    with archive.open(member) as source, (folder / name).open("wb") as target:
                        shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, EOFError) as error:
        raise AmzrecError(f"{path} is a damaged zip file ({error}): download it again") from error
    return folder


def spooled(scratch: Path) -> Path:
    """Copy standard input into a file, once."""
    path = scratch / "standard-input"
    if not path.exists():
        with path.open("wb") as target:
            shutil.copyfileobj(sys.stdin.buffer, target)
    return path


def fingerprint_of(source: str) -> str:
    """Return 16 hex digits of the content of a source, without opening it; of a tfds: name, the name.

    Raises AmzrecError where there is nothing.
    """
    if source.startswith("tfds:"):
        return source
    path = Path(source)
    if path.is_dir():
        return fingerprint(sorted(p for p in path.rglob("*") if p.is_file()))
    return fingerprint(list(locate(source, path).files) if path.suffix.lower() != ".zip" else [existing(path)])


def existing(path: Path) -> Path:
    """Return the path, if a file is there."""
    if not path.is_file():
        raise AmzrecError(f"there is no file or folder {path}: name a file of reviews, or nothing for the sample")
    return path
