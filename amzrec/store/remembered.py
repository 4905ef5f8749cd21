"""Which files were compared with their checksums already: reading gigabytes takes longer than an answer from them.

What was compared once is not read again on the same machine, as long as the system names it the same file: device,
inode, size, and the times of its last change of content and of its last change of any kind (which no program can set
back). That is remembered as an empty file in the private cache, whose name is a hash of all of it: there is nothing in
it to damage, and to lose it costs one more reading. Not seen is what changes on the disk without the system knowing of
it; `amzrec doctor FOLDER` reads all.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from amzrec.errors import AmzrecError
from amzrec.store.folders import cache_folder, private_cache, private_folder

PLACE = "compared"  # in the cache
KEPT = 90 * 86_400.0  # seconds that something is remembered
TICK = 0.05  # seconds: a file that is as young may change once more without a new time, as clocks of file systems tick


class Files:
    """Files of a folder as they stand now, and what is expected of them."""

    def __init__(self, folder: Path, names: Sequence[str], expected: str) -> None:
        """Look at the files; `expected` tells what they are compared with. OSError where one is missing."""
        digest, youngest = hashlib.sha256(expected.encode()), 0
        for name in names:
            stat = (folder / name).stat()
            facts = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            digest.update(f"\0{name}\0{facts}".encode())
            youngest = max(youngest, stat.st_mtime_ns, stat.st_ctime_ns)
        self.name, self.youngest = digest.hexdigest(), youngest / 1e9

    def are_known(self) -> bool:
        """Tell whether just these files were compared before."""
        return os.path.lexists(cache_folder() / PLACE / self.name)

    def remember(self, wait: bool = False) -> None:
        """Remember that these files were compared and are right, where the cache can be written to.

        Files that changed this very moment are not remembered, unless the moment is waited for (`wait`).
        """
        age = time.time() - self.youngest
        if wait and 0 <= age < TICK:
            time.sleep(TICK - age)
        elif age < TICK:
            return
        with contextlib.suppress(OSError, AmzrecError):
            place = private_folder(private_cache() / PLACE)
            forget(place)
            (place / self.name).touch(mode=0o600)


def forget(place: Path) -> None:
    """Remove what was remembered long ago."""
    before = time.time() - KEPT
    for file in place.iterdir():
        with contextlib.suppress(OSError):
            if file.lstat().st_mtime < before:
                file.unlink()
