"""How much a compressed file may unpack to, and what is said where the disk has no room for it."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from amzrec.errors import AmzrecError

SMALL = 256 << 20  # bytes that a file may always unpack to
MOST_TIMES = 200  # how many times its size a larger one may have; text of reviews has 3 to 20 times
MOST_MEMBERS = 100_000  # files in an archive


class Room:
    """How much a compressed file may unpack to: a small one to hundreds of gigabytes, where it was made to do harm."""

    def __init__(self, path: Path) -> None:
        self.path, self.most = path, max(SMALL, MOST_TIMES * path.stat().st_size)
        self.used = self.members = 0

    def copy(self, source: Any, target: Any) -> None:
        """Copy what is in it, block by block; raises AmzrecError as soon as it is too much."""
        while block := source.read(1 << 22):
            self.take(len(block))
            target.write(block)

    def take(self, more: int) -> None:
        """Count bytes that were unpacked; raises AmzrecError where they are too many."""
        self.used += more
        if self.used > self.most:
            raise AmzrecError(
                f"{self.path} unpacks to more than {MOST_TIMES} times its size ({self.used >> 20:,} MB so far), as no "
                "reviews do: see what it is; if it is reviews, unpack it and name what is in it"
            )

    def member(self) -> None:
        """Count one file of an archive; raises AmzrecError where there are too many."""
        self.members += 1
        if self.members > MOST_MEMBERS:
            raise AmzrecError(f"{self.path} has more than {MOST_MEMBERS:,} files: unpack it, and name those of reviews")


def check_disk(path: Path, error: Exception) -> None:
    """Raise AmzrecError where a file could not be unpacked for want of space, which is no fault of the file."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        raise AmzrecError(
            f"there is no space to unpack {path} ({error.strerror}); nothing was left behind. Free some, or choose an "
            "--out on a larger disk"
        ) from error
