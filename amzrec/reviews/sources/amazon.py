"""Amazon reviews: amazon_us_reviews, the ratings CSV of 2014 and 2018, JSON lines, the tables of 2023."""

from __future__ import annotations

import re
from pathlib import Path

from amzrec.errors import AmzrecError
from amzrec.reviews.sources.relation import first_lines
from amzrec.reviews.sources.tables import Shape, fields, in_order

STARS = (1.0, 5.0)
ASIN = re.compile(r"(B[0-9A-Z]{9}|\d{9}[0-9X])")
RATINGS = {  # layout of the ratings CSV without useful names → our columns by position
    "amazon-2014": {"customer_id": 0, "product_id": 1, "stars": 2, "timestamp": 3},
    "amazon-2018": {"customer_id": 1, "product_id": 0, "stars": 2, "timestamp": 3},
}
LAYOUTS = {  # format → our columns
    "amazon-us-reviews": {
        "customer_id": "customer_id",
        "product_id": "product_id",
        "product_parent": "product_parent",
        "product_title": "product_title",
        "category": "product_category",
        "stars": "star_rating",
        "timestamp": "review_date",
    },
    "amazon-json": {
        "customer_id": "reviewerID",
        "product_id": "asin",
        "stars": "overall",
        "timestamp": "unixReviewTime",
    },
    "amazon-2023": {
        "customer_id": "user_id",
        "product_id": "asin",
        "product_parent": "parent_asin",
        "stars": "rating",
        "timestamp": "timestamp",
    },
}


def layout(names: list[str]) -> str | None:
    """The Amazon layout that these column names belong to, or None."""
    if {"customer_id", "product_id", "star_rating", "review_date"} <= set(names):
        return "amazon-us-reviews"
    if {"reviewerID", "asin", "overall"} <= set(names):
        return "amazon-json"
    if {"user_id", "parent_asin", "rating"} <= set(names):
        return "amazon-2023"
    return None


def columns_of(format: str, names: list[str], path: Path) -> dict[str, str]:
    """Our column → the file's column in this layout; raises AmzrecError where the file has not what it needs."""
    columns = {ours: theirs for ours, theirs in LAYOUTS[format].items() if theirs in names}
    if "product_id" not in columns and "product_parent" in columns:
        columns["product_id"] = columns.pop("product_parent")  # the tables of 2023 name the parent only
    for ours in ("customer_id", "product_id", "stars"):
        if ours not in columns:
            raise AmzrecError(
                f"{path} has no column {LAYOUTS[format][ours]!r}, which --format {format} needs. Its columns: "
                f"{', '.join(names)}. Leave --format out, or say which is which with --columns"
            )
    return in_order(columns)


def ratings_layout(path: Path, found: Shape) -> str | None:
    """amazon-2014 (user,item,stars,time) or amazon-2018 (item,user,stars,time): by which column looks like ASINs."""
    if found.kind != "csv":
        return None
    rows = [fields(line, found.delimiter) for line in first_lines(path)]
    rows = [[field.strip() for field in row] for row in rows if len(row) == 4][1 if found.names else 0 :]
    if found.delimiter != "," or not rows:
        return None
    if not all(re.fullmatch(r"[1-5](\.0)?", row[2]) and re.fullmatch(r"\d{8,13}", row[3]) for row in rows):
        return None
    share = [sum(bool(ASIN.fullmatch(row[i])) for row in rows) / len(rows) for i in (0, 1)]
    if max(share) < 0.5 or share[0] == share[1]:
        return None
    return "amazon-2018" if share[0] > share[1] else "amazon-2014"


def ratings_columns(format: str, found: Shape, path: Path) -> dict[str, str]:
    """Our column → the file's, by position; raises AmzrecError where there are fewer than three."""
    names = found.names or [str(i) for i in range(found.width)]
    if len(names) < 3:
        raise AmzrecError(f"{path} has {len(names)} columns; --format {format} needs customer, product and stars")
    return {ours: names[i] for ours, i in RATINGS[format].items() if i < len(names)}


def notes(layout: str, path: Path) -> tuple[str, ...]:
    """What to say of a layout that was told from how its ids look."""
    if layout not in RATINGS:
        return ()
    first, other = ("products", "amazon-2014") if layout == "amazon-2018" else ("customers", "amazon-2018")
    return (f"the first column of {path.name} is taken for the {first}; --format {other} is the other way round",)
