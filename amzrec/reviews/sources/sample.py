"""The first values of each column of a table file, and what they tell about it."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from amzrec.reviews import wholeids
from amzrec.reviews.sources.shape import Shape, fields
from amzrec.reviews.textfile import first_lines

COUNT = 200  # rows that are looked at
WIDE, NARROW = 10, 5  # least columns of a matrix of customers and products; of one that names its customers
STAR_NAME = re.compile(r"rating|score|stars|overall|grade|likert", re.IGNORECASE)
COUNTED = re.compile(
    r"count|num|total|votes|helpful|mean|average|avg|id$|price|year|age|"
    "month|week|day|hour|minute|second|duration|play|(?<!re)view|click|quantity|qty|amount|size|rank|index|level|position",
    re.IGNORECASE,
)
NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")

Sample = dict[str, list[str]]  # column → its first values as text, "" where there is none


def sample_of(path: Path, shape: Shape) -> Sample:
    """Return the first values of every column."""
    if shape.kind == "parquet":
        rows = parquet_rows(path)
        return {name: [as_text(at(row, shape.paths.get(name, (name,)))) for row in rows] for name in shape.names}
    lines = first_lines(path, COUNT)
    if shape.kind == "jsonl":
        rows = [row for line in lines if isinstance(row := decoded(line), dict)]
        return {name: [as_text(at(row, shape.paths.get(name, (name,)))) for row in rows] for name in shape.names}
    if shape.spanning:
        records = list(csv.reader((line + "\n" for line in lines), delimiter=shape.delimiter))
    else:
        records = [fields(line, shape.delimiter) for line in lines]
    whole = [record for record in records[1 if shape.names else 0 :] if len(record) == shape.width]
    names = shape.names or [str(number) for number in range(shape.width)]
    return {name: [record[i] for record in whole] for i, name in enumerate(names)}


def parquet_rows(path: Path) -> list[dict[str, Any]]:
    """Return the first rows of a Parquet file."""
    file = pq.ParquetFile(path)
    batch = next(iter(file.iter_batches(batch_size=COUNT)), None)
    return [] if batch is None else batch.to_pylist()


def decoded(line: str) -> Any:
    """Return the value of a line of JSON, None where it is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def at(row: Any, path: tuple[str, ...]) -> Any:
    """Return the value at a path of keys, None where there is none."""
    for key in path:
        row = row.get(key) if isinstance(row, dict) else None
    return row


def as_text(value: Any) -> str:
    """Return a value as text, "" for none."""
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)


def numbers(values: list[str]) -> list[float] | None:
    """Return the numbers of a column that holds nothing else, or None."""
    filled = [value.strip() for value in values if value.strip()]
    if not filled or not all(NUMBER.fullmatch(value) for value in filled):
        return None
    return [float(value.replace(",", ".")) for value in filled]


def unused_stars(sample: Sample, columns: dict[str, str]) -> str | None:
    """Return the column that looks like stars and is none of ours: by its name, or by few small values."""
    if "stars" in columns:
        return None
    free = {name: numbers(values) for name, values in sample.items() if name not in columns.values()}
    found = {name: values for name, values in free.items() if values and not COUNTED.search(name)}
    by_name = [name for name, values in found.items() if STAR_NAME.search(name) and max(values) <= 100]
    by_value = [
        name for name, values in found.items()
        if len(values) >= 5 and 2 <= len(set(values)) <= 11 and min(values) >= 0 and 3 <= max(values) <= 10
    ]  # fmt: skip
    return next(iter(by_name + by_value), None)


def is_matrix(sample: Sample, shape: Shape, known: bool = False) -> bool:
    """Return whether a table has customers for rows and products for columns: numbers or nothing behind the first.

    `known`: the first column says that it has customers; fewer others then tell.
    """
    if shape.kind == "jsonl" or len(sample) < (NARROW if known else WIDE):
        return False
    _, *others = sample.values()
    cells = [value.strip() for values in others for value in values]
    filled = [value for value in cells if value and value.lower() not in ("nan", "null", "none", "na")]
    return bool(cells) and all(NUMBER.fullmatch(value) for value in filled) and len({*sample}) == len(sample)


def may_be_whole(values: list[str]) -> bool:
    """Return whether all values are whole numbers, some written as floats: 17.0, 1e+07, as of a column with holes."""
    filled = [value.strip() for value in values if value.strip()]
    return all(re.match(wholeids.WHOLE, value) for value in filled) and any(re.search(r"[.eE]", v) for v in filled)
