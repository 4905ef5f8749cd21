"""Folders and files that are whole or absent, the lock of a place, and the one text for what cannot be written."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from amzrec.errors import AmzrecError
from amzrec.store.ownership import Kind, check_folder

NOTHING_LEFT = "nothing was left there"


def cache_folder() -> Path:
    """Return where `train SOURCE` keeps datasets and `serve` indexes: AMZREC_CACHE, or amzrec in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("AMZREC_CACHE") or Path(base) / "amzrec")


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

    Where the block fails `file` stays as it was. Any OSError becomes an AmzrecError (see `writing`).
    """
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial{file.suffix}")
    try:
        with writing(what, file):
            yield partial
            partial.replace(file)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


@contextlib.contextmanager
def whole_folder(out: Path, kind: Kind, overwrite: bool, sources: Iterable[str | Path | None] = ()) -> Iterator[Path]:
    """Give a temporary sibling of the folder `out` to write into; it becomes `out` at the end of the block.

    Replaces an `out` only as `check_folder` allows. Any OSError becomes an AmzrecError (see `writing`), and what stood
    at `out` before stays. What a process that was killed left beside `out` is removed first.
    """
    out = Path(out)
    tidy(out)
    check_folder(out, kind, overwrite, sources := list(sources))
    partial = out.parent / f".{out.name}.{os.getpid()}.partial"
    try:
        with writing(f"the {kind.name}", out):
            out.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            yield partial
            check_folder(out, kind, overwrite, sources)  # what came there meanwhile
            replace_folder(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def replace_folder(new: Path, out: Path) -> None:
    """Move the finished folder `new` to `out`; an older `out` stays until the new one can take its place."""
    if not out.exists():
        new.rename(out)
        return
    old = out.parent / f".{out.name}.{os.getpid()}.old"
    shutil.rmtree(old, ignore_errors=True)
    out.rename(old)
    new.rename(out)
    if old.is_dir():
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.unlink(missing_ok=True)


def tidy(out: Path) -> None:
    """Remove the unfinished folders that killed processes left beside `out`, and put back an `out` they had moved."""
    for left in out.parent.glob(f".{glob.escape(out.name)}.*"):
        process, _, kind = left.name[len(out.name) + 2 :].partition(".")
        if not process.isdigit() or kind not in ("partial", "old") or is_running(int(process)):
            continue
        if kind == "old" and not out.exists():
            left.rename(out)
        else:
            shutil.rmtree(left, ignore_errors=True)


def is_running(process: int) -> bool:
    """Tell whether there is a process of this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # there is one, of another user
        return True
    return True


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the place of a run folder while it is trained; AmzrecError where another process holds it."""
    lock = folder.parent / f".{folder.name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AmzrecError(
                f"another training is writing the run folder {folder} now: wait for it, or choose another --run"
            ) from None
        except OSError:  # a file system without locks
            pass
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
