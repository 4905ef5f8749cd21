"""Names that are spelled most like a wanted one that is not there, found at once also in a large catalogue."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import numpy as np

from amzrec.store.strings import Strings
from amzrec.store.vectors import Vectors

SHORTLIST = 2000  # names that are compared letter by letter
WORDS = 3  # longest words of the wanted name that are looked for
LAST = "\U0010ffff"  # behind every other character in the order of bytes
LOOKED_THROUGH = 1 << 23  # most bytes of names that are looked through for a text, in some 30 ms
AROUND = 100  # names before and after the place where the wanted one would stand in order


def nearest_products(name: str, vectors: Vectors, n: int = 3) -> list[str]:
    """Return the titles of products, or their ids where there are no titles, that are spelled most like `name`.

    Only a shortlist is compared letter by letter: names that hold a word of `name`, those around its place in sorted
    order, and the most reviewed products, which are the first rows.
    """
    ids, titles = vectors.product_ids, vectors.titles
    names = titles if len(titles.blob) else ids
    rows = [*holding(name, names), *around(name, names), *range(1, min(len(names), SHORTLIST))]
    shortlist = [names[row] for row in dict.fromkeys(rows)]
    if names is titles:
        shortlist += [ids[row] for row in around(name, ids)]
    return nearest(name, shortlist, n)


def beginning_with(text: str, vectors: Vectors, k: int) -> list[int]:
    """List k product rows whose title begins with `text`, in these, small or large letters, or whose id is `text`.

    Where they are fewer, titles that hold it elsewhere come after them. The most reviewed come first, which are the
    first rows. Where no product has a title, its id stands for it.
    """
    titles, rows = vectors.titles if len(vectors.titles.blob) else vectors.product_ids, set[int]()
    for spelled in {text, text.lower(), text.upper(), text.capitalize(), text.title()}:
        begin, end = titles.place(spelled), titles.place(spelled + LAST)
        found = titles.order[begin:end]
        rows.update(np.sort(found)[: k + 1].tolist())
    same = vectors.product_ids.find(text)
    listed = [*([same] if same else []), *sorted(rows - {0, same or 0})]
    if len(listed) < k:
        listed += [row for row in containing(text, titles, k + len(listed)) if row not in listed]
    return listed[:k]


def containing(text: str, names: Strings, k: int) -> list[int]:
    """List the first k rows whose name holds `text`, letters of ASCII being equal in either case.

    No row where names are so many that looking through them would take long.
    """
    key, rows = text.encode().lower(), list[int]()
    if not key or len(names.blob) > LOOKED_THROUGH:
        return rows
    whole = names.blob.tobytes().lower()
    byte = whole.find(key)
    while byte >= 0 and len(rows) < k:
        row = int(np.searchsorted(names.offsets, byte, side="right")) - 1
        end = int(names.offsets[row + 1])
        inside = byte + len(key) <= end  # else it goes over into the next name
        if inside:
            rows.append(row)
        byte = whole.find(key, end if inside else byte + 1)
    return rows


def ids_beginning_with(text: str, ids: Strings, k: int) -> list[int]:
    """List the first k rows, in the order of their ids, whose id begins with `text`; row 0 is nobody's."""
    begin, key = ids.place(text), text.encode()
    rows = [int(row) for row in ids.order[begin : begin + k + 1]]
    return [row for row in rows if row and ids.raw(row).startswith(key)][:k]


def nearest(name: str, names: Iterable[str], n: int = 3) -> list[str]:
    """Return the n names that are spelled most like `name`, upper and lower case being equal; "" is no name."""
    spelled = {text.casefold(): text for text in names if text}
    return [spelled[key] for key in difflib.get_close_matches(name.casefold(), spelled, n, 0.5)]


def holding(name: str, names: Strings) -> list[int]:
    """List rows whose name holds one of the longest words of `name`, so many of each that all fit the shortlist."""
    text, rows = bytes(names.blob).lower(), list[int]()
    words = {word for word in name.lower().encode().split() if len(word) > 2}
    for word in sorted(words, key=len, reverse=True)[:WORDS]:
        byte, hits = text.find(word), 0
        while byte >= 0 and hits < SHORTLIST // (WORDS + 1):
            row = int(np.searchsorted(names.offsets, byte, side="right")) - 1
            rows.append(row)
            hits += 1
            byte = text.find(word, int(names.offsets[row + 1]))
    return rows


def around(name: str, names: Strings) -> list[int]:
    """List the rows before and after the place where `name` would stand among the sorted names."""
    place = names.place(name)
    return [int(row) for row in names.order[max(0, place - AROUND) : place + AROUND]]
