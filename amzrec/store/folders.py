"""Folders and files that are whole or absent, whoever was killed; the text for what cannot be written."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from amzrec.errors import AmzrecError
from amzrec.store.locks import TOKEN, claim, is_running, taken_over
from amzrec.store.manifest import write_manifest
from amzrec.store.numbered import exchange, publish, recover
from amzrec.store.ownership import RUN_FOLDER, Kind, check_folder

NOTHING_LEFT = "nothing was left there"
OTHERS = 0o077  # what the group and all others may do
UNFINISHED = re.compile(rf"\.(.+)\.{TOKEN.pattern}\.(partial.*|old|lock)")


def cache_folder() -> Path:
    """Return where `train SOURCE` keeps datasets and `serve` indexes: AMZREC_CACHE, or amzrec in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("AMZREC_CACHE") or Path(base) / "amzrec")


def private_cache() -> Path:
    """Return the cache folder, made where it is not there: nobody else may read it, since it holds customer ids."""
    with writing("the cache", cache_folder()):
        return private_folder(cache_folder())


def cannot_write(what: str, place: Path | str, error: OSError, left: str = NOTHING_LEFT) -> AmzrecError:
    """Make the error for a full disk or a forbidden place: what could not be written, where, why, and what is left."""
    return AmzrecError(
        f"cannot write {what} {place}: {error.strerror or error}; {left}. "
        "Free some space, or choose a place that you may write to"
    )


@contextlib.contextmanager
def writing(what: str, place: Path | str, left: str = NOTHING_LEFT) -> Iterator[None]:
    """Turn an OSError of the block into `cannot_write`."""
    try:
        yield
    except OSError as error:
        raise cannot_write(what, place, error, left) from error


@contextlib.contextmanager
def whole_file(file: Path, what: str) -> Iterator[Path]:
    """Give the path of a temporary sibling to write to; it takes the place of `file` at the end of the block.

    Where the block fails `file` stays as it was. Any OSError becomes an AmzrecError (see `writing`). What a process
    that was killed left beside `file` is removed first. In a folder that only its owner may enter, so is the file.
    """
    file = Path(file)
    tidy(file)
    with writing(what, file), claim(file) as token:
        partial = file.with_name(f".{file.name}.{token}.partial{file.suffix}")
        try:
            if not file.parent.stat().st_mode & OTHERS:
                os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            yield partial
            partial.replace(file)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()


@contextlib.contextmanager
def asked_file(file: Path, what: str) -> Iterator[Path]:
    """Do as `whole_file` does for a file that the user names, whose folder is made where it is missing."""
    with writing(what, file):
        file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file, what) as partial:
        yield partial


@contextlib.contextmanager
def whole_folder(
    out: Path, kind: Kind, overwrite: bool, sources: Iterable[str | Path | None] = (), private: bool = False
) -> Iterator[Path]:
    """Give a temporary sibling of the folder `out` to write into; it becomes `out` at the end of the block.

    Replaces an `out` only as `check_folder` allows. Any OSError becomes an AmzrecError (see `writing`), and what stood
    at `out` before stays. What a process that was killed left beside `out` is removed first. `private`: nobody else
    may read it.
    """
    out = Path(out)
    tidy(out)
    if kind is RUN_FOLDER:
        recover(out)
    check_folder(out, kind, overwrite, sources := list(sources))
    with writing(f"the {kind.name}", out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with claim(out) as token:
            partial = out.parent / f".{out.name}.{token}.partial"
            try:
                partial.mkdir(mode=0o700 if private else 0o777)
                yield partial
                check_folder(out, kind, overwrite, sources)  # what came there meanwhile
                if kind.listed:
                    write_manifest(partial, kind)
                if private:
                    make_private(partial)
                if kind is RUN_FOLDER:
                    publish(partial, out, overwrite)
                else:
                    replace_folder(partial, out, kind, overwrite)
            finally:
                shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def scratch_folder(above: Path | None = None) -> Iterator[Path]:
    """Give an empty folder that nobody else may read and that is removed at the end, in `above` or the temporary one.

    Those of killed processes are removed first.
    """
    place = (above or Path(tempfile.gettempdir())) / "amzrec"
    tidy(place)
    with writing("to the folder", place.parent), claim(place) as token:
        folder = place.parent / f".{place.name}.{token}.partial"
        try:
            folder.mkdir(mode=0o700)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def make_private(folder: Path) -> None:
    """Let nobody else read a folder and what is in it, as far as the file system knows of owners."""
    with contextlib.suppress(OSError):
        for path in [folder, *folder.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o700 if path.is_dir() else 0o600)


def private_folder(folder: Path) -> Path:
    """Make a folder that nobody else may read; one that exists keeps its mode."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    return folder


def replace_folder(new: Path, out: Path, kind: Kind, overwrite: bool) -> None:
    """Move the finished folder `new` to `out`; an older `out` stays until the new one can take its place.

    Raises AmzrecError where another one came there meanwhile, unless `overwrite`: of two that are made at one place,
    one is refused.
    """
    try:
        new.rename(out)  # only where nothing, or an empty folder, stands
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
    if not overwrite:
        raise AmzrecError(
            f"the {kind.name} {out} exists already, since this began: choose another {kind.flag}, or add --overwrite "
            "to replace it"
        )
    if exchange(new, out):
        remove(new)
        return
    with claim(out) as token:
        old = out.parent / f".{out.name}.{token}.old"
        out.rename(old)
        new.rename(out)
        remove(old)


def tidy(place: Path) -> None:
    """Remove what dead processes left unfinished beside `place`, and put back what they had moved away from there."""
    lefts = sorted(place.parent.glob(f".{glob.escape(place.name)}.*"))
    tokens = {left.name[len(place.name) + 2 :].partition(".")[0] for left in lefts}
    for token in filter(TOKEN.fullmatch, tokens):
        with taken_over(place, token) as dead:
            if dead:
                finish(place, [left for left in lefts if left.name.startswith(f".{place.name}.{token}.")])
    for left in lefts:  # of older versions, by the number of their process
        number = left.name[len(place.name) + 2 :].partition(".")[0]
        if number.isdecimal() and not is_running(int(number)):
            finish(place, [left])


def finish(place: Path, lefts: list[Path]) -> None:
    """Remove what one dead process left, and put back what it had moved away."""
    for left in lefts:
        kind = left.name[len(place.name) + 2 :].partition(".")[2]
        if kind == "old" and not place.exists() and not place.is_symlink():
            left.rename(place)
        elif kind in ("old", "partial", f"partial{place.suffix}"):
            remove(left)


def sweep(folder: Path) -> None:
    """Remove what dead processes left unfinished in a folder that holds nothing but amzrec's own."""
    names = (UNFINISHED.fullmatch(path.name) for path in (folder.iterdir() if folder.is_dir() else ()))
    for name in {found[1] for found in names if found}:
        tidy(folder / name)


def remove(path: Path) -> None:
    """Remove a file, a folder or a link of our own, as far as that goes; of a link, not what it leads to."""
    with contextlib.suppress(OSError):
        if path.lstat().st_uid != os.geteuid():
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
