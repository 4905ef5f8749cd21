"""Which column of a file is which of ours: as --columns says, or as the names themselves say."""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path

from amzrec.errors import AmzrecError
from amzrec.reviews.relation import in_order
from amzrec.reviews.sources.shape import Shape

OURS = {  # the names that --columns takes
    "customer": "customer_id",
    "product": "product_id",
    "parent": "product_parent",
    "title": "product_title",
    "category": "category",
    "stars": "stars",
    "timestamp": "timestamp",
}
# Names that columns have in files people have, in lower case without separators, the best first
SYNONYMS = {
    "customer_id": ("customerid", "userid", "reviewerid", "customer", "user", "reviewer", "uid", "profileid"),
    "product_id": ("productid", "itemid", "asin", "movieid", "product", "item", "iid", "bookid", "isbn", "sku"),
    "product_parent": ("productparent", "parentasin"),
    "product_title": ("producttitle", "itemtitle", "movietitle", "productname", "itemname"),
    "category": ("productcategory", "category", "maincategory", "itemcategory"),
    "stars": ("starrating", "stars", "rating", "overall", "score", "userrating"),
    "timestamp": ("timestamp", "unixreviewtime", "unixtime", "time", "reviewdate", "reviewtime", "date"),
}


def plain(name: str) -> str:
    """Return a column name in lower case without separators: `star_rating`, `Star Rating` → `starrating`."""
    return "".join(character for character in name.lower() if character.isalnum())


def named_columns(text: str, shape: Shape, path: Path | str) -> dict[str, str]:
    """Return our column → the file's for `customer=UserId,product=ItemId,stars=rating`; a number counts from 0.

    Raises AmzrecError for a name the file does not have (with the nearest one), or where customer or product lacks.
    """
    columns: dict[str, str] = {}
    for pair in text.split(","):
        ours, equals, theirs = (piece.strip() for piece in pair.partition("="))
        if not equals or ours not in OURS:
            raise AmzrecError(
                f"--columns has {pair!r}; write {'|'.join(OURS)}=COLUMN with commas between, "
                "such as customer=UserId,product=ItemId,stars=rating"
            )
        columns[OURS[ours]] = column_of(theirs, shape, path)
    for ours in ("customer", "product"):
        if OURS[ours] not in columns:
            raise AmzrecError(f"--columns {text} names no {ours}: add {ours}=COLUMN")
    return columns


def column_of(wanted: str, shape: Shape, path: Path | str) -> str:
    """Return the column of this name or number; raises AmzrecError, with the nearest name, where there is none."""
    names = shape.columns
    if wanted not in names and wanted.isdigit() and shape.names and int(wanted) < len(names):
        return names[int(wanted)]
    if wanted in names:
        return wanted
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]}?" if near else ""
    what = "columns" if shape.names else "columns, numbered for want of a header"
    raise AmzrecError(f"--columns names {wanted!r}, which {path} does not have{hint} Its {what}: {', '.join(names)}")


def without_header(shape: Shape, text: str) -> Shape:
    """Take the first line for a review too where --columns has numbers only, unless it has names that are known."""
    numbers = [pair.partition("=")[2].strip() for pair in text.split(",")]
    if not shape.names or len(guessed_columns(shape.names)) > 1 or not all(n.isdigit() for n in numbers):
        return shape
    return dataclasses.replace(shape, names=[])


def guessed_columns(names: list[str]) -> dict[str, str]:
    """Return our column → the file's, where the names say what they are; a parent alone is a product id."""
    by_plain = {plain(name): name for name in reversed(names)}
    columns = {}
    for ours, synonyms in SYNONYMS.items():
        for synonym in synonyms:
            if synonym in by_plain:
                columns[ours] = by_plain[synonym]
                break
    if "product_id" not in columns and "product_parent" in columns:
        columns["product_id"] = columns.pop("product_parent")
    return in_order(columns)


def example(shape: Shape) -> str:
    """Return a --columns value for this file, to copy and mend."""
    return ",".join(
        f"{ours}={name}" for ours, name in zip(("customer", "product", "stars"), shape.columns, strict=False)
    )
