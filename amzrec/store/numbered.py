"""A run folder as a link to a numbered folder beside it that does not change: `runs/joint` leads to `runs/.joint/3`.

A run that is replaced is written as the next number, and the link is moved there in one step, so that there is always a
whole run. Who reads one resolves the link once, opens all files below that folder, and holds a shared lock on its
run.json as long as it is read. Numbers that the link no longer leads to are removed when nobody holds them.

The locks are flock. Network file systems of before NFS 4, and others without locks, do not tell one machine what
another reads: there an older number stays for a day. A process on NFS does not see its own locks, so one that replaces
a run that it has opened itself may lose the files under it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from amzrec.errors import AmzrecError
from amzrec.store.locks import FLAGS, NO_LOCKS, STALE, claim, is_same, locked

MARKER = "run.json"  # of a whole run; what is held by who reads it
TRIES = 50  # to hold a run that is replaced all the time


def home_of(place: Path) -> Path:
    """Return the folder that holds the numbers of the run at a place."""
    return place.parent / f".{place.name}"


def place_of(folder: Path) -> Path:
    """Return the place that a numbered folder is, or was, linked from; of another folder, itself."""
    home = folder.parent.name
    if folder.name.isdigit() and home.startswith(".") and len(home) > 1:
        return folder.parent.parent / home[1:]
    return folder


def is_ours(place: Path) -> bool:
    """Tell whether a link is one that amzrec made for a run: to a number of this very name."""
    return place.is_symlink() and bool(re.fullmatch(rf"\.{re.escape(place.name)}/\d+", os.readlink(place)))


def numbers(home: Path) -> list[int]:
    """List the numbers that there are, the oldest first."""
    return sorted(int(path.name) for path in home.iterdir() if path.name.isdecimal()) if home.is_dir() else []


# --- readers


class Held:
    """A run folder that is read: nobody removes it as long as this object lives."""

    def __init__(self, folder: Path, descriptor: int) -> None:
        self.folder, self._descriptor = folder, descriptor

    def is_there(self) -> bool:
        """Tell whether it was not removed before it was held."""
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self._descriptor), (self.folder / MARKER).stat())
        return False

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


def hold(place: Path) -> Held | None:
    """Hold the run folder that a place is, or leads to, now; None where no whole one is there."""
    for _ in range(TRIES):
        folder = standing(place)
        if folder is None:
            return None
        try:
            descriptor = os.open(folder / MARKER, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            if standing(place) == folder:
                return None
            continue  # it was replaced, and removed, this very moment
        except OSError as error:
            raise AmzrecError(f"the run folder {place} cannot be read: {error.strerror or error}") from error
        held = Held(folder, descriptor)
        if taken(descriptor) and held.is_there():
            return held if (folder / MARKER).is_file() else None
        time.sleep(0.001)
    raise AmzrecError(f"the run folder {place} is replaced again and again: try once more, or name another run")


def standing(place: Path) -> Path | None:
    """Return the folder that a place is, or leads to; where a killed process left it without one, the one to come."""
    if place.exists():
        return Path(os.path.realpath(place))
    coming = [home_of(place) / str(number) for number in coming_numbers(place)]
    return Path(os.path.realpath(coming[-1])) if coming else None


def taken(descriptor: int) -> bool:
    """Share the lock of an open file; False where it is about to be removed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True


# --- writers


def publish(new: Path, place: Path, overwrite: bool) -> None:
    """Make the finished folder `new` the run at `place`, in one step; AmzrecError where one came there meanwhile.

    `new` must be on the same file system. What stood there before is replaced with `overwrite`, and removed when nobody
    reads it. OSError where that fails, and `new` is where it was.
    """
    home = home_of(place)
    home.mkdir(exist_ok=True)
    with swapping(home):
        if exists(place) and not overwrite:
            raise AmzrecError(
                f"the run folder {place} exists already, since this began: choose another --run, or add --overwrite "
                "to replace it"
            )
        number = 1 + max(numbers(home), default=0)
        if place.is_dir() and not place.is_symlink():
            number += 1  # the one before is for what stands there
        coming = home / f"{number}.new"
        coming.touch()
        try:
            new.rename(home / str(number))
            try:
                lead(place, number)
            except BaseException:
                (home / str(number)).rename(new)
                raise
        finally:
            coming.unlink(missing_ok=True)
        prune(place)


def exists(place: Path) -> bool:
    """Tell whether something stands at a place: an empty folder, or a link of ours that leads nowhere, is nothing."""
    if place.is_symlink():
        return place.exists() or not is_ours(place)
    return any(place.iterdir()) if place.is_dir() else place.exists()


def lead(place: Path, number: int) -> None:
    """Let a place lead to a number, in one step; a folder of before there were numbers gets the number before."""
    with claim(place) as token:
        link = place.parent / f".{place.name}.{token}.partial"
        link.symlink_to(f".{place.name}/{number}")
        if place.is_symlink() or not place.exists():
            link.replace(place)
            return
        if not exchange(link, place):
            link.unlink()
            link = place.parent / f".{place.name}.{token}.old"  # `tidy` puts it back
            fresh = place.parent / f".{place.name}.{token}.partial"
            fresh.symlink_to(f".{place.name}/{number}")
            place.rename(link)
            fresh.replace(place)
        with contextlib.suppress(OSError):
            link.rename(home_of(place) / str(number - 1))


def coming_numbers(place: Path) -> list[int]:
    """List the numbers that were whole when the process that was to lead the place there was killed."""
    home = home_of(place)
    found = (home / str(number) for number in numbers(home) if (home / f"{number}.new").exists())
    return [int(folder.name) for folder in found if (folder / MARKER).is_file()]


def recover(place: Path) -> None:
    """Finish what a killed process had begun: the place leads to the run that was whole, and was to stand there."""
    home = home_of(place)
    if not home.is_dir() or not any(path.suffix == ".new" for path in home.iterdir()):
        return
    with swapping(home):
        for number in coming_numbers(place):
            lead(place, number)
        for path in list(home.iterdir()):
            if path.suffix == ".new":
                path.unlink(missing_ok=True)


def prune(place: Path) -> None:
    """Remove the numbers that nothing leads to and nobody reads; to be called while swapping."""
    led = {os.path.realpath(path) for path in place.parent.iterdir() if path.is_symlink()}
    for number in numbers(home_of(place)):
        folder = home_of(place) / str(number)
        if os.path.realpath(folder) not in led:
            with contextlib.suppress(OSError):
                remove_unread(folder)


def remove_unread(folder: Path) -> None:
    """Remove a numbered folder unless somebody holds it; where there are no locks, when it is a day old."""
    try:
        descriptor = os.open(folder / MARKER, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        free = locked(descriptor)
        if free is None:
            free = time.time() - folder.stat().st_mtime > STALE
        if free:
            (folder / MARKER).unlink()  # from now on nobody begins to read it
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def swapping(home: Path) -> Iterator[None]:
    """Wait until nobody else moves the link of this run, as far as the file system can tell."""
    while True:
        descriptor = os.open(home / "lock", FLAGS, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(descriptor)
                raise
        if is_same(descriptor, home / "lock"):
            break
        os.close(descriptor)
    try:
        yield
    finally:
        os.close(descriptor)


def exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; False where the system or the file system cannot."""
    name, before, flag = ("renamex_np", (), 2) if sys.platform == "darwin" else ("renameat2", (-100,), 2)
    call = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if call is None:
        return False
    arguments = [part for path in (one, other) for part in (*before, os.fsencode(path))]
    if call(*arguments, flag) == 0:
        return True
    error = ctypes.get_errno()
    if error in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(error, os.strerror(error), str(other))
