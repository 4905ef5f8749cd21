"""Layouts that column names tell: how the published sets of reviews name their columns.

To add one, add an entry to LAYOUTS. Its example is what `--format` and docs/sources.md show, and what the tests read.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from amzrec.errors import AmzrecError
from amzrec.reviews.relation import in_order


@dataclasses.dataclass(frozen=True)
class Layout:
    """The columns of one published set of reviews."""

    name: str  # as --format takes it
    about: str  # what --format says of it, one line
    known_by: frozenset[str]  # column names that no other layout has together
    columns: dict[str, str]  # our column → the column of the file, the first of several that the file has
    example: str  # the first lines of such a file
    scale: tuple[float, float] | None = None  # lowest and highest stars; None: whatever the file holds
    clicks: bool = False  # whether a review without stars is a click (True) or a mistake (False)


LAYOUTS = (  # in the order in which they are tried
    Layout(
        name="amazon-us-reviews",
        about="the 15-column TSV of amazon_us_reviews, or a spreadsheet's CSV of it",
        known_by=frozenset({"customer_id", "product_id", "star_rating", "review_date"}),
        columns={
            "customer_id": "customer_id",
            "product_id": "product_id",
            "product_parent": "product_parent",
            "product_title": "product_title",
            "category": "product_category",
            "stars": "star_rating",
            "timestamp": "review_date",
        },
        example=(
            "marketplace\tcustomer_id\treview_id\tproduct_id\tproduct_parent\tproduct_title\tproduct_category\t"
            "star_rating\thelpful_votes\ttotal_votes\tvine\tverified_purchase\treview_headline\treview_body\t"
            "review_date\n"
            "US\t10349\tR2YVNBBMXD8KVJ\tB00MWK7BWG\t307651059\tMy Favourite Rope\tOutdoors\t5\t0\t0\tN\tY\t"
            "Five Stars\tIt holds\t2015-08-31\n"
        ),
        scale=(1.0, 5.0),
    ),
    Layout(
        name="amazon-json",
        about="JSON lines of 2014 and 2018: reviewerID, asin, overall, unixReviewTime",
        known_by=frozenset({"reviewerID", "asin", "overall"}),
        columns={
            "customer_id": "reviewerID",
            "product_id": "asin",
            "stars": "overall",
            "timestamp": "unixReviewTime",
        },
        example='{"reviewerID": "A1KLRMWW2FWP", "asin": "0132793040", "overall": 5.0, "unixReviewTime": 1365811200}\n',
        scale=(1.0, 5.0),
    ),
    Layout(
        name="amazon-2023",
        about="JSON lines, CSV or Parquet of 2023: user_id, parent_asin, rating, timestamp",
        known_by=frozenset({"user_id", "parent_asin", "rating"}),
        columns={
            "customer_id": "user_id",
            "product_id": "asin",
            "product_parent": "parent_asin",
            "stars": "rating",
            "timestamp": "timestamp",
        },
        example=(
            '{"rating": 5.0, "title": "It holds", "asin": "B00YQ6X8EO", "parent_asin": "B00YQ6X8EO", '
            '"user_id": "AGKHLEW2SOWHNMFQIJGBECAF7INQ", "timestamp": 1588687728923}\n'
        ),
        scale=(1.0, 5.0),
    ),
)


def layout_of(names: list[str]) -> Layout | None:
    """Return the layout that these column names belong to."""
    return next((layout for layout in LAYOUTS if layout.known_by <= set(names)), None)


def named(name: str | None) -> Layout | None:
    """Return the layout of this name."""
    return next((layout for layout in LAYOUTS if layout.name == name), None)


def columns_of(layout: Layout, names: list[str], path: Path | str) -> dict[str, str]:
    """Return our column → the file's column; raises AmzrecError where the file lacks one that reviews need."""
    columns = {ours: theirs for ours, theirs in layout.columns.items() if theirs in names}
    if "product_id" not in columns and "product_parent" in columns:
        columns["product_id"] = columns.pop("product_parent")  # the tables of 2023 name the parent only
    for ours in ("customer_id", "product_id", "stars"):
        if ours in layout.columns and ours not in columns:
            raise AmzrecError(
                f"{path} has no column {layout.columns[ours]!r}, which --format {layout.name} needs. Its columns: "
                f"{', '.join(names)}. Leave --format out, or say which is which with --columns"
            )
    return in_order(columns)
