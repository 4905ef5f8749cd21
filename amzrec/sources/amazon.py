"""Amazon reviews: the amazon_us_reviews TSV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amzrec.sources.relation import Source, first_lines, read_delimited

STARS = (1.0, 5.0)
TSV = {
    "customer_id": "customer_id",
    "product_id": "product_id",
    "product_parent": "product_parent",
    "product_title": "product_title",
    "category": "product_category",
    "stars": "star_rating",
    "timestamp": "review_date",
}


def open_tsv(con: Any, name: str, file: Path) -> Source:
    """The 15-column layout of amazon_us_reviews: tab-separated, with no quote and no escape character."""
    names = first_lines(file, 1)[0].split("\t")
    table = read_delimited(con, file, names, "\t")
    return Source(
        name=name,
        format="amazon-us-reviews",
        columns=TSV,
        reviews=table.select(**{ours: table[theirs] for ours, theirs in TSV.items()}),
        scale=STARS,
        files=(file,),
    )
