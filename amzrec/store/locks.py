"""Who is at work at a place: locks that end with their process, also where other machines or containers share the disk.

The lock of a place is a file beside it, held with flock. Between containers of one machine it always holds; on network
file systems where those have locks. Where there are none, the file tells who made it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from amzrec.errors import SILENT, AmzrecError, Progress

TOKEN = re.compile(r"x[0-9a-f]{12}")
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
STALE = 86_400.0  # seconds after which what another machine left is taken for left, where there are no locks
NUMBER = "[0-9]{1,9}"  # of a process; the system knows none longer
FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def lock_of(place: Path, token: str = "") -> Path:
    """Return the lock file of a place, or of the work of one process there."""
    return place.parent / (f".{place.name}.{token}.lock" if token else f".{place.name}.lock")


def locked(descriptor: int) -> bool | None:
    """Lock an open file for this process; False where another one holds it, None where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
    return True


def is_same(descriptor: int, file: Path) -> bool:
    """Tell whether an open file still stands under this name."""
    try:
        there = file.lstat()
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


@contextlib.contextmanager
def claim(place: Path) -> Iterator[str]:
    """Give a name that nobody else has, for what is unfinished beside `place`; its lock is held in the block."""
    while True:
        token = f"x{secrets.token_hex(6)}"
        file = lock_of(place, token)
        descriptor = os.open(file, FLAGS | os.O_EXCL, 0o600)
        if locked(descriptor) is not False and is_same(descriptor, file):
            break
        os.close(descriptor)  # another process took it for left, before it was locked
    try:
        os.write(descriptor, owner().encode())
        yield token
    finally:
        file.unlink(missing_ok=True)
        os.close(descriptor)


@contextlib.contextmanager
def taken_over(place: Path, token: str) -> Iterator[bool]:
    """Tell whether the process that had claimed this token is dead; then its lock is held in the block, and removed."""
    file = lock_of(place, token)
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:  # it was removed last
        yield True
        return
    except OSError:  # of another user
        yield False
        return
    try:
        held = locked(descriptor)
        free = (
            held if held is not None else not may_live(os.pread(descriptor, 1000, 0).decode("utf-8", "replace"), file)
        )
        yield free
        if free:
            file.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def owner() -> str:
    """Return what tells a process from all others: machine, when it started, container, number."""
    boot, container = "", ""
    with contextlib.suppress(OSError):  # not on Linux
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        container = os.readlink("/proc/self/ns/pid")
    return f"{socket.gethostname()} {boot} {container} {os.getpid()}\n"


def may_live(named: str, file: Path) -> bool:
    """Tell whether the process that wrote `named` into its lock file may live, where there are no locks to tell."""
    *where, number = named.strip().split(" ") if named.strip() else [""]
    if re.fullmatch(NUMBER, number) and where == owner().strip().split(" ")[:-1]:
        return is_running(int(number))
    with contextlib.suppress(OSError):
        return time.time() - file.stat().st_mtime < STALE
    return False


def is_running(process: int) -> bool:
    """Tell whether there is a process of this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # there is one, of another user
        return True
    return True


@contextlib.contextmanager
def alone(folder: Path, progress: Progress = SILENT) -> Iterator[None]:
    """Hold the place of a run folder while it is trained; AmzrecError where another process holds it.

    The lock of a dead process is taken over. Where the file system has no locks, that is said.
    """
    file = lock_of(folder)
    file.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            descriptor = os.open(file, FLAGS, 0o600)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EMLINK):
                raise
            raise AmzrecError(
                f"the lock file {file} is a link to {os.readlink(file)}: remove it, or choose another --run"
            ) from None
        held = locked(descriptor)
        if held is False:
            os.close(descriptor)
            raise AmzrecError(
                f"another training is writing the run folder {folder} now: wait for it, or choose another --run"
            )
        if is_same(descriptor, file):
            break
        os.close(descriptor)  # the one that held it has just removed it
    if held is None:
        progress.say(f"the file system of {folder} has no locks: see that no other training writes there now")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(descriptor)
