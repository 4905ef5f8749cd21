"""Sources in object stores, on web servers, in standard input: copied once into the scratch folder, read as files."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path, PurePosixPath

from amzrec.errors import SILENT, AmzrecError, Progress
from amzrec.reviews.sources import address
from amzrec.reviews.sources.stores import Item, Store
from amzrec.reviews.textfile import content_of

FILES_AT_ONCE = 4
MEGABYTE = 1_000_000
PAGES = (b"<!doctype html", b"<html", b"<head", b"<!doctype xml", b"<?xml")


class Copied:
    """What was copied: the file or folder that it lies in, its name for people, and a fingerprint of its content."""

    def __init__(self, place: Path, shown: str, fingerprint: str) -> None:
        self.place, self.shown, self.fingerprint = place, shown, fingerprint

    def called(self, file: Path) -> str:
        """Return where a file of the copy came from."""
        if file == self.place or not file.is_relative_to(self.place):
            return self.shown
        return f"{self.shown.rstrip('/')}: {file.relative_to(self.place)}"


def store_of(source: str) -> Store:
    """Open the store of an address."""
    parsed = address.parsed(source)
    if parsed.scheme in ("http", "https"):
        from amzrec.reviews.sources.web import Web

        return Web(parsed)
    from amzrec.reviews.sources.buckets import Bucket

    return Bucket(parsed)


def fingerprint_of(source: str) -> str | None:
    """Return 16 hex digits of what a store says of a source's files; None where it does not say what changed."""
    if source == address.STDIN:
        return None
    return mark_of(store_of(source).items())


def mark_of(items: list[Item]) -> str | None:
    """Return 16 hex digits of the names, sizes and marks of files."""
    if any(item.mark is None for item in items):
        return None
    told = json.dumps([(item.name, item.key, item.size, item.mark) for item in items])
    return hashlib.md5(told.encode()).hexdigest()[:16]


def copied(source: str, scratch: Path, progress: Progress = SILENT) -> Copied:
    """Copy the files of a source into a new folder of `scratch`, several at once, a block at a time.

    Raises AmzrecError where there is nothing, the store refuses, or what came is a web page.
    """
    if source == address.STDIN:
        return standard_input(scratch)
    shown = address.masked(source)
    store = store_of(source)
    items = store.items()
    folder = next(f for n in range(10_000) if not (f := scratch / f"copied-{n}").exists())
    files = [folder / local_name(item.name) for item in items]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
    fetch_all(store, items, files, f"fetching {shown}", progress)
    for file in files:
        check_page(file, shown)
    size = sum(file.stat().st_size for file in files)
    what = f"{len(files):,} files, " if len(files) > 1 else ""
    progress.say(f"{shown}: {what}{size / MEGABYTE:,.1f} MB fetched")
    single = len(files) == 1 and items[0].name == PurePosixPath(items[0].name).name
    return Copied(files[0] if single else folder, shown, mark_of(items) or content_of(files))


def standard_input(scratch: Path) -> Copied:
    """Copy standard input into a file of the folder `scratch`; raises AmzrecError where it is empty."""
    path = scratch / "standard-input"
    with path.open("wb") as target:
        shutil.copyfileobj(sys.stdin.buffer, target)
    if not path.stat().st_size:
        raise AmzrecError("standard input is empty: pipe reviews into it, or name a file")
    return Copied(path, address.STDIN_SHOWN, content_of([path]))


def local_name(name: str) -> str:
    """Return a name that stays inside the folder of the copies."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..", ".")]
    return "/".join(parts) or "download"


def fetch_all(store: Store, items: list[Item], files: list[Path], label: str, progress: Progress) -> None:
    """Copy each item into its file, and tell how far it is; the first error ends all."""
    lock, done = threading.Lock(), 0
    sizes = [item.size for item in items]
    total = sum(size for size in sizes if size is not None) if None not in sizes else 0

    def tell(more: int) -> None:
        nonlocal done
        with lock:
            done += more

    def fetch(item: Item, file: Path) -> None:
        with file.open("wb") as target:
            store.fetch(item, target, tell)

    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        waiting = {pool.submit(fetch, item, file) for item, file in zip(items, files, strict=True)}
        while waiting:
            ended, waiting = wait(waiting, timeout=0.2, return_when=FIRST_EXCEPTION)
            for one in ended:
                if one.exception():
                    pool.shutdown(cancel_futures=True)
                one.result()
            if waiting:
                progress.step(label, done // MEGABYTE, max(total, done) // MEGABYTE + 1, "MB")


def check_page(file: Path, shown: str) -> None:
    """Raise AmzrecError where a file is a web page, as a server gives it that wants a login or shows a preview."""
    with file.open("rb") as stream:
        start = stream.read(512)
    if start.lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith(PAGES):
        raise AmzrecError(
            f"{shown} gives a web page, not data: a login, a preview, or a list of files. Take the address of the file "
            "itself (on GitHub that of Raw), or download it and name the file"
        )
