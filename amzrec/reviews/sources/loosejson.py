"""JSON that is not one object per line: arrays, objects over several lines, trailing commas, Python's dicts."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from amzrec.reviews.sources.columns import guessed_columns

SCALAR = r'"((?:[^"\\]|\\.)*)"\s*:\s*(?:"(?:[^"\\]|\\.)*"|[-+.\dEe]+|true|false|null)\s*,\s*'
WRAPPED = re.compile(rf'\s*\{{\s*(?:{SCALAR})*"[^"]*"\s*:\s*(?=\[\s*\{{)')  # {"count": 2, "reviews": [{…
SPACE = re.compile(r"[\s,]*")
LARGEST = 1 << 26  # characters of one object
DECODER = json.JSONDecoder()


def form_of(text: str) -> str | None:
    """Tell how the JSON is written that begins with this text: lines, loose lines, objects, or None for no JSON.

    `lines` have one object each; `loose` ones have commas at their end, or are dicts of Python; `objects` follow one
    another over several lines, perhaps in an array.
    """
    text = text.lstrip("\ufeff").lstrip()
    if re.match(r"\[\s*\{", text) or is_wrapped(text):
        return "objects"
    if not text.startswith("{"):
        return None
    first = text.partition("\n")[0].strip()
    if is_object(first):
        return "lines"
    if loose_object(first) is not None:
        return "loose"
    try:
        value, _ = DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return "objects" if "\n" in text and first in ("{", "[{") else "lines"
    return "objects" if isinstance(value, dict) else None


def is_wrapped(text: str) -> bool:
    """Return whether this text begins one object that holds a list of reviews, behind values that are of no review."""
    found = WRAPPED.match(text)
    first, _, rest = text.partition("\n")
    if not found or (rest.strip() and is_object(first)):
        return False
    return "customer_id" not in guessed_columns(name for name, *_ in re.findall(SCALAR, found[0]))


def is_object(line: str) -> bool:
    """Return whether a line is one JSON object."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def loose_object(line: str) -> dict[str, Any] | None:
    """Return the object of a line with a comma at its end, or of one that is a dict of Python; None for other text."""
    line = line.strip().removesuffix(",")
    if not (line.startswith("{") and line.endswith("}")):
        return None
    try:
        value = json.loads(line)
    except RecursionError:
        return None
    except ValueError:
        try:
            value = ast.literal_eval(line)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def strict_lines(lines: Iterable[str]) -> Iterator[str]:
    """Yield every line again, the loose objects as JSON, so that the number of a line stays its number."""
    for line in lines:
        stripped = line.strip()
        if not stripped or is_object(stripped):
            yield stripped
        elif (value := loose_object(stripped)) is not None:
            yield json.dumps(value, ensure_ascii=False, default=str)
        else:
            yield "" if stripped in ("[", "]", "],") else stripped


def objects(texts: Iterable[str]) -> Iterator[str]:
    """Yield the objects that follow one another in a text, each as one line; the text may be a long array.

    What cannot be read from some place on is yielded as one line, so that it is refused and listed.
    """
    parts = iter(texts)
    text, at = next(parts, "").lstrip("\ufeff"), 0
    wrapped = is_wrapped(text)
    if wrapped:
        at = WRAPPED.match(text).end()  # type: ignore[union-attr]
    at = re.compile(r"\s*\[?").match(text, at).end()  # type: ignore[union-attr]
    while True:
        at = SPACE.match(text, at).end()  # type: ignore[union-attr]
        if wrapped and text.startswith("]", at):  # what follows is of no review either
            return
        try:
            _, end = DECODER.raw_decode(text, at) if at < len(text) else (None, -1)
        except (ValueError, RecursionError):
            end = -1
        if end >= 0 and end < len(text):  # at the very end a number might go on
            yield text[at:end].replace("\r", " ").replace("\n", " ")
            at = end
            continue
        more = next(parts, None)
        if more is not None and len(text) - at < LARGEST:
            text, at = text[at:] + more, 0
            continue
        rest = text[at:] if end < 0 else text[at:end]
        if rest.strip().strip("]},\n "):
            yield " ".join(rest.split())
        return
