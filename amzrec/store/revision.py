"""Files that come into a finished folder, or are replaced there, together with its manifest."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from amzrec.store.folders import NOTHING_LEFT, OTHERS, make_private, scratch_folder, whole_file, writing
from amzrec.store.manifest import Entry, Manifest, read_manifest
from amzrec.store.ownership import MANIFEST, Kind


@contextlib.contextmanager
def revised(folder: Path, kind: Kind, what: str, left: str = NOTHING_LEFT) -> Iterator[Path]:
    """Give an empty folder to write files into that take their places in the finished `folder` at the end of the block.

    Its manifest says at every moment what is there: whoever is killed, and whoever reads meanwhile. A folder of before
    there were manifests gets none. OSError becomes an AmzrecError that names `what` (see `writing`).
    """
    with writing(what, folder, left), scratch_folder(folder) as scratch:
        yield scratch
        if not folder.stat().st_mode & OTHERS:
            make_private(scratch)
        written = sorted((file.stat().st_mtime_ns, file) for file in scratch.rglob("*") if file.is_file())
        names = [file.relative_to(scratch).as_posix() for _, file in written]  # the last one comes last here too
        with waiting(folder):
            manifest = read_manifest(folder, kind)
            if manifest is None:
                put(scratch, folder, names)
                return
            coming = {name: Entry.of(scratch / name) for name in names}
            write(folder, dataclasses.replace(manifest, replacing=manifest.replacing | coming))
            put(scratch, folder, names)
            write(folder, dataclasses.replace(manifest, files=manifest.files | coming, replacing={}))


def put(scratch: Path, folder: Path, names: list[str]) -> None:
    """Move files of the scratch folder to their places."""
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (scratch / name).replace(folder / name)


def write(folder: Path, manifest: Manifest) -> None:
    """Put a manifest in place of the one that is there."""
    with whole_file(folder / MANIFEST, "the manifest") as partial:
        manifest.signed().write(partial)


@contextlib.contextmanager
def waiting(folder: Path) -> Iterator[None]:
    """Wait until nobody else revises a folder, as far as the file system can tell."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
