"""Any review source → one relation: which layout it is, found from the content and said out loud."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.sources import amazon, movielens
from amzrec.sources.checks import checked
from amzrec.sources.relation import Source, fingerprint, first_lines

__all__ = ["Source", "checked", "fingerprint", "fingerprint_of", "open_source", "sample_folder"]


def open_source(con: Any, source: str, config: PrepareConfig) -> Source:
    """Open a source on an engine connection; raises AmzrecError where it is missing or of no known layout."""
    path = Path(source)
    if not path.exists():
        raise AmzrecError(f"there is no file or folder {source}")
    if path.is_dir():
        found = movielens.reviews_file(path)
        if found is None:
            raise AmzrecError(f"the folder {source} has no known layout")
        path = found
    if layout := movielens.layout(path):
        return movielens.open_movielens(con, source, path, layout)
    head = first_lines(path, 1)[0].split("\t")
    if "star_rating" in head:
        return amazon.open_tsv(con, source, path)
    raise AmzrecError(f"{source} has no known layout")


def fingerprint_of(source: str) -> str:
    """The fingerprint of a source's files, without opening it on an engine."""
    path = Path(source)
    if not path.exists():
        raise AmzrecError(f"there is no file or folder {source}")
    files = tuple(sorted(p for p in path.rglob("*") if p.is_file())) if path.is_dir() else (path,)
    return fingerprint(files)


def sample_folder() -> Path:
    """The embedded sample: inside the installed package, or at the top of the source tree."""
    package = Path(__file__).parent.parent
    for folder in (package / "data" / "sample", package.parent / "data" / "sample"):
        if folder.is_dir():
            return folder
    raise AmzrecError("the embedded sample is missing from this installation: install amzrec again, or name a SOURCE")
