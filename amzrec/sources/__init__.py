"""Any review source → one relation: which layout it is, found from the content and said out loud."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.sources import amazon, movielens, tables
from amzrec.sources.relation import Source, fingerprint

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
    """Open a source on an engine connection; `scratch` is a folder for copies.

    Raises AmzrecError where the source is missing, empty, or of no known layout.
    """
    if config.format is not None and config.format not in FORMATS:
        raise AmzrecError(f"--format is {config.format!r}; allowed: {', '.join(FORMATS)}")
    if source.startswith("tfds:"):
        from amzrec.sources import saved

        return saved.open_tfds(con, source, scratch)
    path = Path(source)
    if not path.exists():
        raise AmzrecError(f"there is no file or folder {source}: name a file of reviews, or nothing for the sample")
    if path.is_dir():
        if (path / "dataset_spec.pb").is_file():
            from amzrec.sources import saved

            return saved.open_saved(con, source, path, config, scratch)
        found = movielens.reviews_file(path)
        if found is None:
            names = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
            raise AmzrecError(
                f"the folder {source} has no known layout (it holds {names}): folders of MovieLens and of "
                "tf.data.Dataset.save are read; otherwise name one file"
            )
        path = found
    layout = movielens.layout(path) if config.format is None and config.columns is None else config.format
    if layout is not None and layout.startswith("movielens"):
        return movielens.open_movielens(con, source, path, layout)
    return open_table(con, source, path, config)


def open_table(con: Any, source: str, path: Path, config: PrepareConfig) -> Source:
    """A table file: an Amazon layout, the columns of --columns, or names that say what they are."""
    found = tables.shape(path)
    scale, clicks, notes = None, True, ()
    layout = config.format or (None if config.columns else amazon.layout(found.names))
    if config.columns:
        layout, columns = "table", tables.named_columns(config.columns, found, path)
    elif layout in amazon.LAYOUTS:
        columns = amazon.columns_of(layout, found.names, path)
        scale, clicks = amazon.STARS, False
    elif layout in amazon.RATINGS or (layout := amazon.ratings_layout(path, found)):
        names = found.names or [str(i) for i in range(found.width)]
        columns = {ours: names[i] for ours, i in amazon.RATINGS[layout].items() if i < len(names)}
        scale, clicks = amazon.STARS, False
    else:
        layout, columns = "table", tables.guessed_columns(found.names)
        if "customer_id" not in columns or "product_id" not in columns:
            seen = ", ".join(found.names) or f"{found.width} columns without a header"
            raise AmzrecError(
                f"{source} has no known layout: it is {found.kind} with {seen}. Say which column is which, such as "
                f"--columns {tables.example(found)}, or its --format: {', '.join(FORMATS)}"
            )
    part = tables.read_table(con, path, found, columns)
    return Source(source, layout, columns, (part,), scale, clicks, notes=notes)


def fingerprint_of(source: str) -> str:
    """The fingerprint of a source's files, without opening it on an engine; of a tfds: name, the name."""
    if source.startswith("tfds:"):
        return source
    path = Path(source)
    if not path.exists():
        raise AmzrecError(f"there is no file or folder {source}: name a file of reviews, or nothing for the sample")
    return fingerprint(sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path])


def sample_folder() -> Path:
    """The embedded sample: inside the installed package, or at the top of the source tree."""
    package = Path(__file__).parent.parent
    for folder in (package / "data" / "sample", package.parent / "data" / "sample"):
        if folder.is_dir():
            return folder
    raise AmzrecError("the embedded sample is missing from this installation: install amzrec again, or name a SOURCE")
