"""Files that are no tables, named for what they are, with what to do."""

from __future__ import annotations

from amzrec.errors import AmzrecError

KINDS: tuple[tuple[bytes, str, str], ...] = (  # how such a file begins, what it is, what to do
    (b"version https://git-lfs", "a pointer of Git LFS, not the data", "fetch the data with: git lfs pull"),
    (b"%PDF", "a PDF document", "name a table"),
    (b"\xd0\xcf\x11\xe0", "a document of Office (doc)", "save its table as CSV"),
    (b"SQLite format 3", "an SQLite database that was copied or packed", "name the file itself, on this machine"),
    (b"\x89PNG", "a picture", "name a table"),
    (b"\xff\xd8\xff", "a picture", "name a table"),
    (b"GIF8", "a picture", "name a table"),
    (b"\x89HDF", "an HDF5 file", "write the table from Python as Parquet: df.to_parquet(…)"),
    (b"\x93NUMPY", "a NumPy array", "write it from Python as Parquet or CSV, with named columns"),
    (b"ARROW1", "an Arrow (Feather) file", "write it as Parquet: pyarrow.feather.read_table(…), then write_table(…)"),
    (b"ORC", "an ORC file", "write it as Parquet"),
    (b"Obj\x01", "an Avro file", "write it as Parquet or JSON lines"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it, and name what is in it"),
    (b"Rar!", "a RAR archive", "unpack it, and name what is in it"),
    (b"\x1f\x9d", "a file compressed with compress (.Z)", "unpack it with: uncompress FILE"),
    (b"\x04\x22\x4d\x18", "a file compressed with lz4", "unpack it with: lz4 -d FILE"),
    (b"{\\rtf", "a document (RTF)", "name a table"),
    (
        b"\x80\x04\x95",
        "a Python pickle, which may run code when it is read",
        "write the table as Parquet: df.to_parquet(…)",
    ),
    (
        b"\x80\x05\x95",
        "a Python pickle, which may run code when it is read",
        "write the table as Parquet: df.to_parquet(…)",
    ),
)
DUMPS = (b"-- mysql dump", b"-- mariadb dump", b"-- postgresql database dump", b"insert into", b"create table", b"/*!")
MARKUP = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<rss", b"<svg", b"<body")


def refuse(name: str, start: bytes) -> None:
    """Raise AmzrecError where a file that begins with these bytes is known to be no table."""
    for magic, what, remedy in KINDS:
        if start.startswith(magic):
            raise AmzrecError(f"{name} is {what}: {remedy}")
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(DUMPS):
        raise AmzrecError(
            f"{name} is a dump of a database (SQL): load it into the database, and name that with its table, such as "
            "mysql://user@host/shop --table reviews"
        )
    if text.startswith(MARKUP):
        kind = "an XML file" if text.startswith((b"<?xml", b"<rss", b"<svg")) else "a web page (HTML)"
        raise AmzrecError(
            f"{name} is {kind}, not a table: perhaps a login or an error was downloaded instead. Download it again"
        )
