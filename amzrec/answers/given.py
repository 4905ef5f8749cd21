"""Ids as people give them from Python: text, whole numbers, numbers of numpy; one, a list, an array or a frame."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any

from amzrec.errors import AmzrecError, is_utf8


def text_of(given: Any, what: str = "an id") -> str:
    """Return an id as text: 17 and 17.0 are "17". Raises AmzrecError for None, and for what is no id."""
    if isinstance(given, bytes):
        given = given.decode("utf-8", "surrogateescape")
    if isinstance(given, str):
        if not is_utf8(given):
            raise AmzrecError(f"{what} is {given!r}, which is not UTF-8 as all ids are")
        return str(given)
    if isinstance(given, numbers.Integral) and not isinstance(given, bool):
        return str(int(given))
    if isinstance(given, numbers.Real) and not isinstance(given, bool) and float(given).is_integer():
        return str(int(float(given)))
    if getattr(given, "shape", None) == () and hasattr(given, "item"):
        return text_of(given.item(), what)
    raise AmzrecError(f"{what} is {given!r} ({type(given).__name__}); allowed: text or a whole number")


def texts_of(given: Any, what: str = "an id") -> list[str]:
    """Return ids as a list of text: of one id, a list, an array, a column, or a frame with the column product_id."""
    if given is None:
        return []
    if isinstance(given, str | bytes | numbers.Number):
        return [text_of(given, what)]
    if hasattr(given, "columns") and "product_id" in list(given.columns):
        given = given["product_id"]
    if hasattr(given, "to_pylist"):
        given = given.to_pylist()
    if not isinstance(given, Iterable):
        return [text_of(given, what)]
    return [text_of(one, what) for one in given]


def spellings(text: str) -> list[str]:
    """Return an id, and how else a whole number is written: 17 and 17.0."""
    whole = text.removesuffix(".0")
    return [text, whole if whole != text else f"{text}.0"] if whole.lstrip("-").isdigit() else [text]
