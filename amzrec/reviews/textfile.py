"""Plain and gzip text files: whether they are whole, how they begin, what tells them apart."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from functools import partial
from io import BufferedReader
from pathlib import Path

from amzrec.errors import AmzrecError, one_line
from amzrec.parallel import ahead
from amzrec.reviews.room import Room

GZIP = b"\x1f\x8b"
SAMPLE = 1 << 18  # bytes in which the first lines are looked for
LARGE = 64 << 20  # bytes of a file that one thread sums up
BLOCK = 1 << 20
LONGEST = 16 << 20  # bytes of a line that is read: some engines would pass over longer ones, or stop
NEAR = 1 << 16  # bytes in which a block of a file mostly has the end of a line


def is_gzip(path: Path) -> bool:
    """Return whether the file begins as gzip does, whatever its name."""
    with path.open("rb") as file:
        return file.read(2) == GZIP


def open_bytes(path: Path) -> gzip.GzipFile | BufferedReader:
    """Open a plain or gzip file for reading bytes."""
    return gzip.GzipFile(path, "rb") if is_gzip(path) else path.open("rb")


def blank_lines(path: Path) -> int:
    """Count the blank lines before the first other one."""
    with open_bytes(path) as file:
        return next((number for number, line in enumerate(file) if line.strip(b"\r\n\xef\xbb\xbf")), 0)


def check_gzip(path: Path) -> None:
    """Raise AmzrecError where a gzip file is damaged, cut short (an engine might read what is there), or a bomb."""
    if is_gzip(path):
        try:
            room = Room(path)
            with gzip.open(path, "rb") as file:
                while block := file.read(1 << 22):
                    room.take(len(block))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise damaged(path, error) from error


def may_have_longer_lines(path: Path) -> bool:
    """Return whether a line of a file may be longer than LONGEST: whether so many bytes in its middle end none.

    Of a plain file little is read: some 64 KB of each 8 MB, where lines are short.
    """
    half = LONGEST // 2  # a longer line has at least one of the blocks that begin at a multiple of this to itself
    with open_bytes(path) as file:
        if isinstance(file, gzip.GzipFile):
            while len(block := file.read(half)) == half:
                if b"\n" not in block:
                    return True
            return False
        for start in range(0, path.stat().st_size - half + 1, half):
            file.seek(start)
            if b"\n" not in file.read(NEAR) and b"\n" not in file.read(half - NEAR):
                return True
    return False


def first_lines(path: Path, count: int = 200) -> list[str]:
    """Return the first non-blank lines without their ends; what is not UTF-8 becomes replacement characters."""
    try:
        with open_bytes(path) as file:
            block = file.read(SAMPLE)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise damaged(path, error) from error
    lines = block.decode("utf-8-sig", "replace").splitlines()
    if len(block) == SAMPLE and len(lines) > 1:
        lines.pop()  # the last one is cut
    return [line for line in lines if line.strip()][:count]


def damaged(path: Path, error: Exception) -> AmzrecError:
    """Return the error that a damaged gzip file is refused with."""
    return AmzrecError(f"{path} is a gzip file cut short or damaged ({one_line(error)}): download it again")


def fingerprint(files: list[Path], root: Path | None = None) -> str:
    """Return 16 hex digits of the names, sizes and all bytes of files: of their names within the folder `root`, if any.

    Two files of one content and name have one fingerprint, wherever they stand. It is made of the CRC-32 of each
    megabyte, on all cores: above 1 GB a second for each of them where the file is in memory.
    """
    digest = hashlib.blake2b(digest_size=8)
    for path in files:
        size, name = path.stat().st_size, path.relative_to(root) if root else path.name
        digest.update(f"{name}\0{size}\0".encode("utf-8", "surrogateescape"))
        for sums in ahead(partial(sums_of, path), range(0, size, LARGE)):
            digest.update(sums)
    return digest.hexdigest()


def sums_of(path: Path, start: int) -> bytes:
    """Return the CRC-32 of each megabyte of the part of a file that begins at `start` and is LARGE bytes long."""
    with path.open("rb") as file:
        file.seek(start)
        blocks = iter(lambda: file.read(min(BLOCK, start + LARGE - file.tell())), b"")
        return b"".join(zlib.crc32(block).to_bytes(4, "little") for block in blocks)


def content_of(files: list[Path]) -> str:
    """Return 16 hex digits of all that these files hold."""
    digest = hashlib.md5()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "md5").digest())
    return digest.hexdigest()[:16]
