"""Titles as people read them, and their words as numbers."""

from __future__ import annotations

import html
import re
import zlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from amzrec.arrays import Array, Bools
from amzrec.reviews.arrow import array_of, lists_of, offsets_in

JUNK = ("<span class=", "<img ", "var aPageStart", "Amazon.com:")  # page source that Amazon metadata has for a title
# Titles that `clean_title` may change: entities, page source, blanks to squeeze, nothing, more than plain ASCII
NEEDY = r"^$|^ | $|  |&|[^ -~]|^(" + "|".join(JUNK).replace(".", r"\.") + ")"
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069]")  # those that are no blanks
WORD = re.compile(r"\w+")
# Each byte of a UTF-8 text in lower case, 0 where it is in no word
LOWER = np.array([ord(chr(b).lower()) if b > 127 or WORD.match(chr(b)) else 0 for b in range(256)], np.uint8)
LOWER[128:] = range(128, 256)

Bytes = npt.NDArray[np.uint8]


def clean_title(title: str | None) -> str | None:
    """Return a title as people read it: entities decoded, blanks squeezed, no control characters, which may change
    what a terminal shows; None for page source or nothing.
    """
    if title is None or title.lstrip().startswith(JUNK):
        return None
    if title.isprintable() and "&" not in title and "  " not in title:  # nothing to mend, which is soon seen
        return title.strip() or None
    return " ".join(CONTROL.sub("", html.unescape(title)).split()) or None


def clean_titles(titles: pa.StringArray) -> pa.StringArray:
    """Return `clean_title` of each title: computed in Python for those titles only that may need it."""
    needy = pa.compute.match_substring_regex(titles, NEEDY).fill_null(False)
    if not needy.true_count:
        return titles
    mended = pa.array([clean_title(title) for title in titles.filter(needy).to_pylist()], pa.string())
    return pa.compute.replace_with_mask(titles, needy, mended)


def words(title: str) -> str:
    """Return the lower-cased words of a title, with blanks between."""
    return " ".join(WORD.findall(title.lower()))


def tokens(titles: pa.StringArray) -> pa.ListArray:
    """Return crc32 & 0x7fffffff of the lower-cased words of each title [n], in order, as int32 lists; none of a null.

    Python's own hash changes from process to process. All titles are split at once, as one array of bytes, and each
    different word is hashed once. Of the titles "Rope, 5m" and "Tent":

        letters   r o p e 0 0 5 m t e n t     0: no letter of a word
        begins    ^           ^   ^           where a word begins
        lists     [rope, 5m], [tent]
    """
    known = plain_ascii(titles.drop_null())
    letters, ends = lower_letters(known)
    first = np.flatnonzero(word_begins(letters, ends))
    hashes = word_hashes(letters, first)
    words_in = np.zeros(len(titles), np.int64)
    words_in[titles.is_valid().to_numpy(zero_copy_only=False)] = np.diff(np.searchsorted(first, ends))
    return lists_of(words_in, array_of(hashes))


def plain_ascii(titles: pa.StringArray) -> pa.StringArray:
    """Replace the titles that are not ASCII by their words: only Python knows what is a letter there."""
    odd = ~pa.compute.string_is_ascii(titles).to_numpy(zero_copy_only=False)
    if not odd.any():
        return titles
    mended = pa.array([words(title) for title in titles.filter(array_of(odd)).to_pylist()], pa.string())
    return pa.compute.replace_with_mask(titles, array_of(odd), mended)


def lower_letters(titles: pa.StringArray) -> tuple[Bytes, Array]:
    """Return the bytes of all titles, in lower case and 0 outside of words, and where each title begins and ends."""
    ends = offsets_in(titles)
    return LOWER[np.frombuffer(titles.buffers()[2] or b"", np.uint8)[ends[0] : ends[-1]]], ends - ends[0]


def word_begins(letters: Bytes, ends: Array) -> Bools:
    """Mark the letters that begin a word: after something else, or where a title begins."""
    inside = letters > 0
    begins = inside.copy()
    begins[1:] &= ~inside[:-1]
    starts = ends[:-1][ends[:-1] < len(letters)]
    begins[starts] = inside[starts]  # also where the title before ended with a word
    return begins


def word_hashes(letters: Bytes, first: Array) -> npt.NDArray[np.int32]:
    """Return crc32 & 0x7fffffff of the words that begin at the positions `first` [w], in order."""
    inside = letters > 0
    bounds = np.append((np.cumsum(inside) - 1)[first], inside.sum()).astype(np.int32)
    each = pa.Array.from_buffers(pa.binary(), len(first), [None, *map(pa.py_buffer, (bounds, letters[inside]))])
    distinct = each.dictionary_encode()
    hashes = np.array([zlib.crc32(word) & 0x7FFFFFFF for word in distinct.dictionary.to_pylist()], np.int32)
    return hashes[distinct.indices.to_numpy()] if len(hashes) else hashes
