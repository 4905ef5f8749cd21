"""Compressed files and archives as plain files: bz2, xz, zst, zip, tar; told by their content, whatever their names."""

from __future__ import annotations

import bz2
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from amzrec.errors import AmzrecError, one_line
from amzrec.reviews.room import MOST_MEMBERS, Room, check_disk
from amzrec.reviews.textfile import open_bytes

BZIP2, XZ, ZSTANDARD, ZIP = b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
TAR, TAR_AT = b"ustar", 257
SHEETS = {"xl/workbook.xml", "xl/workbook.bin"}  # one of them is in every xlsx, xlsm and xlsb file …
ODS = b"application/vnd.oasis.opendocument.spreadsheet"  # … and this in the file mimetype of every ods
BROKEN = (
    OSError, EOFError, RuntimeError, NotImplementedError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile,
    tarfile.TarError, pa.ArrowException,
)  # fmt: skip


def is_archive(path: Path) -> bool:
    """Return whether a file is a zip, also one cut short, or a tar, also a compressed one; spreadsheets are none."""
    with path.open("rb") as file:
        start = file.read(4)
    if start == ZIP or path.suffix.lower() == ".zip":
        return not is_sheet(path)
    try:
        with opened(path) as stream:
            return bool(stream.read(TAR_AT + len(TAR))[TAR_AT:] == TAR)
    except BROKEN:
        return False


def is_sheet(path: Path) -> bool:
    """Return whether a file is a spreadsheet of the xlsx or ods kind."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if SHEETS & names or "mimetype" not in names:
                return bool(SHEETS & names)
            with archive.open("mimetype") as kind:
                return kind.read(len(ODS)) == ODS
    except BROKEN:
        return False


def opened(path: Path) -> Any:
    """Open a file for reading the bytes that are compressed in it, or those that are there."""
    with path.open("rb") as file:
        start = file.read(6)
    if start.startswith(BZIP2):
        return bz2.open(path, "rb")
    if start.startswith(XZ):
        return lzma.open(path, "rb")
    if start.startswith(ZSTANDARD):
        return pa.CompressedInputStream(pa.OSFile(str(path), "rb"), "zstd")
    return open_bytes(path)


def unpacked(path: Path, scratch: Path) -> Path:
    """Return a bz2, xz or zst file as a plain file in the folder `scratch`; any other file as it is.

    Raises AmzrecError where it is damaged or cut short.
    """
    with path.open("rb") as file:
        start = file.read(6)
    if not start.startswith((BZIP2, XZ, ZSTANDARD)):
        return path
    target = free_name(scratch, path.stem)
    room = Room(path)
    try:
        with opened(path) as source, target.open("wb") as file:
            room.copy(source, file)
    except BROKEN as error:
        check_disk(path, error)
        raise AmzrecError(
            f"{path} is a compressed file cut short or damaged ({one_line(error)}): download it again"
        ) from error
    return target


def extracted(path: Path, scratch: Path) -> Path:
    """Write the files of an archive into a new folder of `scratch`, each under its own path, none outside of it.

    Of several files of one path the further ones get a number. Raises AmzrecError where the archive is damaged,
    encrypted, or much larger than what reviews unpack to.
    """
    folder = free_name(scratch, f"archive-{path.stem}")
    folder.mkdir()
    room = Room(path)
    try:
        for name, stream in members(path):
            room.member()
            name = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            target = folder.joinpath(*[piece for piece in PurePosixPath(name).parts if piece not in ("..", "/")])
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                target = free_name(target.parent, target.stem, target.suffix)
            with stream, target.open("xb") as file:
                room.copy(stream, file)
    except BROKEN as error:
        check_disk(path, error)
        if "password" in str(error) or "encrypted" in str(error):
            raise AmzrecError(f"{path} is encrypted: unpack it with its password, and name what is in it") from error
        kind = "zip file" if path.suffix.lower() == ".zip" else "archive"
        raise AmzrecError(f"{path} is a damaged {kind} ({one_line(error)}): download it again") from error
    return folder


def check_declared(path: Path) -> None:
    """Raise AmzrecError where a zip that others unpack, a spreadsheet, says that it holds much more than it should."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            room = Room(path)
            for member in archive.infolist():
                room.take(member.file_size)


def members(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the name and the content of each file in an archive."""
    with path.open("rb") as file:
        is_zip = file.read(4) == ZIP or path.suffix.lower() == ".zip"
    if is_zip:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.filename and not member.is_dir():
                    yield member.filename.replace("\\", "/"), archive.open(member)
        return
    with opened(path) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        for entry in tar:
            content = tar.extractfile(entry) if entry.isfile() else None
            if content is not None:
                yield entry.name, content


def free_name(scratch: Path, stem: str, suffix: str = "") -> Path:
    """Return a path in the folder `scratch` where nothing stands yet."""
    return next(path for n in range(MOST_MEMBERS + 1) if not (path := scratch / f"{stem}-{n}{suffix}").exists())
