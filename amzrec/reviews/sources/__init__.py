"""Any review source → one relation: which layout it is, found from the content and said out loud."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews.sources import amazon, catalogue, files, movielens, tables
from amzrec.reviews.sources.relation import Source, check_gzip

__all__ = ["FORMATS", "Source", "open_source", "sample_folder"]

FORMATS = {  # what --format takes
    "amazon-us-reviews": "the 15-column TSV of amazon_us_reviews, or a spreadsheet's CSV of it",
    "amazon-2014": "ratings CSV: user,item,stars,seconds",
    "amazon-2018": "ratings CSV: item,user,stars,seconds",
    "amazon-json": "JSON lines of 2014 and 2018: reviewerID, asin, overall, unixReviewTime",
    "amazon-2023": "JSON lines, CSV or Parquet of 2023: user_id, parent_asin, rating, timestamp",
    "movielens-100k": "MovieLens 100K: u.data or u1.base beside u.item",
    "movielens-1m": "MovieLens 1M: ratings.dat beside movies.dat and users.dat",
    "movielens-10m": "MovieLens 10M: ratings.dat beside movies.dat",
    "movielens-latest": "MovieLens 20M, 25M, 32M, latest: ratings.csv beside movies.csv",
    "tensorflow": "a folder written by tf.data.Dataset.save",
    "tfds": "a name of tensorflow-datasets: tfds:movielens/100k",
    "table": "CSV, TSV, JSON lines or Parquet with --columns customer=…,product=…,stars=…",
}


def open_source(con: Any, source: str, config: PrepareConfig, scratch: Path) -> Source:
    """Open a source on an engine connection, with the titles of --titles; `scratch` is a folder for copies.

    Raises AmzrecError where the source is missing, empty, or of no known layout.
    """
    if config.format is not None and config.format not in FORMATS:
        raise AmzrecError(f"--format is {config.format!r}; allowed: {', '.join(FORMATS)}")
    opened = open_reviews(con, source, config, scratch)
    if config.titles:
        told = catalogue.read_titles(Path(config.titles))
        opened = dataclasses.replace(opened, products={**opened.products, **told})
    return opened


def open_reviews(con: Any, source: str, config: PrepareConfig, scratch: Path) -> Source:
    """The source without --titles."""
    if source.startswith("tfds:"):
        from amzrec.reviews.sources import saved

        return saved.open_tfds(con, source, scratch)
    place = files.locate(source, scratch)
    if place.saved is not None:
        from amzrec.reviews.sources import saved

        return saved.open_saved(con, source, place.saved, config, scratch)
    for path in place.files:
        check_gzip(path)
    layout = config.format
    if layout is None and config.columns is None and len(place.files) == 1:
        layout = movielens.layout(place.files[0])
    if layout is not None and layout.startswith("movielens"):
        return movielens.open_movielens(con, source, place.files[0], layout)
    return open_table(con, place, config)


def open_table(con: Any, place: files.Place, config: PrepareConfig) -> Source:
    """Table files: an Amazon layout, the columns of --columns, or names that say what they are."""
    path = place.files[0]
    found = tables.shape(path)
    scale, clicks = None, True
    layout = config.format or (None if config.columns else amazon.layout(found.names))
    if config.columns:
        found = tables.without_header(found, config.columns)
        layout, columns = "table", tables.named_columns(config.columns, found, path)
    elif layout in amazon.LAYOUTS:
        columns = amazon.columns_of(layout, found.names, path)
        scale, clicks = amazon.STARS, False
    elif layout in amazon.RATINGS or (layout := amazon.ratings_layout(path, found)):
        columns = amazon.ratings_columns(layout, found, path)
        scale, clicks = amazon.STARS, False
    else:
        layout, columns = "table", tables.guessed_columns(found.names)
        if "customer_id" not in columns or "product_id" not in columns:
            seen = ", ".join(found.names) or f"{found.width} columns without a header"
            raise AmzrecError(
                f"{place.name} has no known layout: it is {tables.KINDS[found.kind]} with {seen}. Say which column is "
                f"which, such as --columns {tables.example(found)}, or its --format: {', '.join(FORMATS)}"
            )
    shapes = [found, *(tables.same_shape(other, found, columns, path) for other in place.files[1:])]
    parts = tuple(tables.read_table(con, p, s, columns) for p, s in zip(place.files, shapes, strict=True))
    notes = amazon.notes(layout, path) if config.format is None and config.columns is None else ()
    return Source(place.name, layout, columns, parts, scale, clicks, notes=notes)


def sample_folder() -> Path:
    """The embedded sample: inside the installed package, or at the top of the source tree."""
    package = Path(__file__).parent.parent.parent
    for folder in (package / "data" / "sample", package.parent / "data" / "sample"):
        if folder.is_dir():
            return folder
    raise AmzrecError("the embedded sample is missing from this installation: install amzrec again, or name a SOURCE")
