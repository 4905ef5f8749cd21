"""Which encoding the text of a file has: UTF-8, UTF-16, or one byte per character."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from amzrec.errors import AmzrecError
from amzrec.reviews.sources.blocks import is_utf8
from amzrec.reviews.textfile import open_bytes

BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
UNDEFINED = frozenset(b"\x81\x8d\x8f\x90\x9d")  # bytes that stand for no character of cp1252
UTF8 = "utf-8"
KEPT = "surrogateescape"  # how bytes that are not UTF-8 go through text unharmed
BLOCK = 1 << 22


def known(encoding: str) -> str:
    """Return the usual name of an encoding; raises AmzrecError for an unknown one."""
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        raise AmzrecError(
            f"--encoding is {encoding!r}; allowed: utf-8, utf-16, cp1252 (Windows), latin-1, or what Python knows"
        ) from None


def at_first_sight(start: bytes) -> str | None:
    """Return the encoding that the first bytes of a file tell without doubt: a UTF-16 or -32 mark, or its zeros."""
    for mark, encoding in BOMS:
        if start.startswith(mark):
            return encoding
    even, odd = start[0:4096:2], start[1:4096:2]
    if len(odd) > 8 and odd.count(0) > 0.4 * len(odd) and not even.count(0):
        return "utf-16-le"
    if len(even) > 8 and even.count(0) > 0.4 * len(even) and not odd.count(0):
        return "utf-16-be"
    return None


def of_lines(path: Path) -> str:
    """Return the encoding of a file that has lines which are not UTF-8, from all of its lines.

    Where others are UTF-8 with characters beyond ASCII, it is UTF-8 with damaged lines. Else each byte is a character:
    of Windows (cp1252), or of latin-1 where bytes stand that cp1252 does not have.
    """
    good = bad = 0
    seen: set[int] = set()
    for block in blocks(path):
        if block.isascii():
            continue
        for line in block.split(b"\n"):
            if line.isascii():
                continue
            if is_utf8(line):
                good += 1
            else:
                bad += 1
                seen.update(byte for byte in line if byte > 127)
    if not bad or good >= bad:
        return UTF8
    return "latin-1" if seen & UNDEFINED else "cp1252"


def blocks(path: Path) -> Iterator[bytes]:
    """Yield a file in blocks of whole lines."""
    rest: list[bytes] = []  # of a line that has no end yet
    with open_bytes(path) as file:
        while block := file.read(BLOCK):
            end = block.rfind(b"\n") + 1
            if end:
                yield b"".join([*rest, block[:end]])
                rest = []
            rest.append(block[end:])
    yield b"".join(rest)


def decoded(path: Path, encoding: str) -> Iterator[str]:
    """Yield the text of a file in this encoding, without a mark at its start.

    What does not decode becomes U+FFFD; in UTF-8 it is kept as it is (`KEPT`), so that its line is refused later on.
    """
    decoder = codecs.getincrementaldecoder(encoding)(KEPT if encoding == UTF8 else "replace")
    first = True
    with open_bytes(path) as file:
        while block := file.read(BLOCK):
            text = decoder.decode(block)
            yield text.removeprefix("\ufeff") if first else text
            first = False
    yield decoder.decode(b"", True)
