"""The ratings CSV of Amazon 2014 and 2018: four columns without useful names, told apart by how their ids look."""

from __future__ import annotations

import re
from pathlib import Path

from amzrec.errors import AmzrecError
from amzrec.reviews.sources.shape import Shape, fields
from amzrec.reviews.textfile import first_lines

FORMATS = {
    "amazon-2014": "ratings CSV: user,item,stars,seconds",
    "amazon-2018": "ratings CSV: item,user,stars,seconds",
}
POSITIONS = {  # our column → its position in a line
    "amazon-2014": {"customer_id": 0, "product_id": 1, "stars": 2, "timestamp": 3},
    "amazon-2018": {"customer_id": 1, "product_id": 0, "stars": 2, "timestamp": 3},
}
SCALE = (1.0, 5.0)
ASIN = re.compile(r"(B[0-9A-Z]{9}|\d{9}[0-9X])")
STARS = re.compile(r"[1-5](\.0)?")
SECONDS = re.compile(r"\d{8,13}")


def format_of(path: Path | str, shape: Shape) -> str | None:
    """Return amazon-2014 or amazon-2018, by which of the first two columns looks like ASINs; None: neither."""
    if shape.kind != "csv" or shape.delimiter != ",":
        return None
    rows = [[field.strip() for field in fields(line, shape.delimiter)] for line in first_lines(Path(path))]
    rows = [row for row in rows if len(row) == 4][1 if shape.names else 0 :]
    if not rows or not all(STARS.fullmatch(row[2]) and SECONDS.fullmatch(row[3]) for row in rows):
        return None
    first, second = (sum(bool(ASIN.fullmatch(row[i])) for row in rows) / len(rows) for i in (0, 1))
    if max(first, second) < 0.5 or first == second:
        return None
    return "amazon-2018" if first > second else "amazon-2014"


def columns_of(format: str, shape: Shape, path: Path | str) -> dict[str, str]:
    """Return our column → the file's, by position; raises AmzrecError where there are fewer than three."""
    names = shape.columns
    if len(names) < 3:
        raise AmzrecError(f"{path} has {len(names)} columns; --format {format} needs customer, product and stars")
    return {ours: names[i] for ours, i in POSITIONS[format].items() if i < len(names)}


def note(format: str, path: Path | str) -> str:
    """Say which column was taken for what, because only the look of the ids told."""
    first, other = ("products", "amazon-2014") if format == "amazon-2018" else ("customers", "amazon-2018")
    return f"the first column of {Path(path).name} is taken for the {first}; --format {other} is the other way round"
