"""What a source string points at: a file, a folder, a glob, an archive or a spreadsheet, as local files."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import shlex
from pathlib import Path

from amzrec.errors import AmzrecError, is_utf8
from amzrec.reviews.sources import folder, movielens, packing, sheets
from amzrec.reviews.sources.plain import TextFile
from amzrec.reviews.textfile import fingerprint
from amzrec.store.dataset import is_dataset

REMEDY = "name a file of reviews, or nothing for the sample"


@dataclasses.dataclass(frozen=True)
class Location:
    """Where a source is: a folder that tf.data.Dataset.save wrote, or files that are read as one table."""

    files: tuple[TextFile, ...] = ()
    saved: Path | None = None  # a folder that tf.data.Dataset.save wrote


def locate(source: str, scratch: Path) -> Location:
    """Find the files of a source; archives and spreadsheets are unpacked into the folder `scratch`.

    ARCHIVE/MEMBER names one file in an archive, FILE.xlsx#SHEET one sheet of a spreadsheet. Raises AmzrecError where
    there is nothing, for folders and archives without a known layout, and for folders that are prepared already.
    """
    name, sheet = sheet_of(source)
    place = found(name, scratch)
    files: list[TextFile] = []
    for file in place.files:
        if not is_utf8(str(file.path.absolute())):
            raise AmzrecError(f"the name of {file.name}, or of a folder above it, is not UTF-8: rename it")
        files += sheets.sheets(file, sheet, scratch) if sheets.is_workbook(file.path) else [file]
    return dataclasses.replace(place, files=tuple(files))


def sheet_of(source: str) -> tuple[str, str]:
    """Part FILE.xlsx#SHEET into the file and the sheet, which is nothing for all other sources."""
    before, _, sheet = source.partition("#")
    return (before, sheet) if before.lower().endswith(sheets.ENDINGS) and not Path(source).exists() else (source, "")


def found(source: str, scratch: Path) -> Location:
    """Find the files of a source, spreadsheets as they are."""
    path = Path(source)
    if any(c in source for c in "*?[") and not path.exists():
        return Location(tuple(TextFile(str(file), file, folder.partition_of(file)) for file in matching(source)))
    if not path.exists():
        return Location((in_archive(path, scratch),))
    if path.is_dir():
        if is_dataset(path):
            raise AmzrecError(f"{source} is a prepared dataset: train on it with: amzrec train {shlex.quote(source)}")
        return in_folder(source, path)
    if packing.is_archive(path):
        return in_folder(source, packing.extracted(path, scratch))
    return Location((TextFile(source, path, folder.partition_of(path)),))


def matching(pattern: str) -> list[Path]:
    """List the files that a glob matches; raises AmzrecError where there are none."""
    files = [Path(path) for path in sorted(glob.glob(pattern, recursive=True)) if Path(path).is_file()]
    if not files:
        raise AmzrecError(f"no file matches {pattern}")
    return files


def in_archive(path: Path, scratch: Path) -> TextFile:
    """Return the file that ARCHIVE/MEMBER names; raises AmzrecError where there is no such file."""
    for above in path.parents:
        if above.is_file() and packing.is_archive(above):
            member = packing.extracted(above, scratch) / path.relative_to(above)
            if member.is_file():
                return TextFile(str(path), member)
            break
    raise AmzrecError(f"there is no file or folder {path}: {REMEDY}")


def in_folder(source: str, inside: Path) -> Location:
    """Find what a folder holds: a dataset saved by tf.data, MovieLens (also one level down), or table files."""
    for inner in (inside, *sorted(path for path in inside.iterdir() if path.is_dir())):
        if (inner / "dataset_spec.pb").is_file():
            return Location(saved=inner)
        if ratings := movielens.reviews_file(inner):
            return Location((TextFile(str(Path(source) / ratings.relative_to(inside)), ratings),))
    return Location(folder.table_files(inside, source))


def fingerprint_of(source: str) -> str:
    """Return 16 hex digits of the content of a source, without opening it; of a tfds: name, the name.

    Raises AmzrecError where there is nothing.
    """
    if source.startswith("tfds:"):
        return source
    source, sheet = sheet_of(source)
    if sheet:
        return hashlib.md5(f"{fingerprint_of(source)}#{sheet}".encode()).hexdigest()[:16]
    path = Path(source)
    if path.is_dir():
        files = (file for file in path.rglob("*") if file.is_file())
        return fingerprint(sorted(file for file in files if not folder.hidden(file.relative_to(path))), path)
    if path.is_file():
        return fingerprint([path])
    if any(c in source for c in "*?["):
        return fingerprint(matching(source))
    for above in path.parents:
        if above.is_file():  # ARCHIVE/MEMBER
            return fingerprint([above])
    raise AmzrecError(f"there is no file or folder {source}: {REMEDY}")
