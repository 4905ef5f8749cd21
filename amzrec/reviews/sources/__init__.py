"""Any review source → one relation: which layout it is, found from the content and said out loud."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews.engines.protocol import Engine
from amzrec.reviews.relation import Source
from amzrec.reviews.sources import catalogue, layouts, location, movielens, ratings, tables
from amzrec.reviews.textfile import check_gzip

FORMATS: dict[str, str] = {  # what --format takes
    **{layout.name: layout.about for layout in layouts.LAYOUTS},
    **ratings.FORMATS,
    **movielens.FORMATS,
    "tensorflow": "a folder written by tf.data.Dataset.save",
    "tfds": "a name of tensorflow-datasets: tfds:movielens/100k",
    "table": "CSV, TSV, JSON lines or Parquet with --columns customer=…,product=…,stars=…",
}


def open_source(engine: Engine, source: str, config: PrepareConfig, scratch: Path) -> Source:
    """Open a source on an engine, with the titles of --titles; `scratch` is a folder for copies.

    Raises AmzrecError where the source is missing, empty, or of no known layout.
    """
    if config.format is not None and config.format not in FORMATS:
        raise AmzrecError(f"--format is {config.format!r}; allowed: {', '.join(FORMATS)}")
    opened = open_reviews(engine, source, config, scratch)
    if config.titles:
        opened = dataclasses.replace(opened, products={**opened.products, **catalogue.read_titles(Path(config.titles))})
    return opened


def open_reviews(engine: Engine, source: str, config: PrepareConfig, scratch: Path) -> Source:
    """Open a source without --titles."""
    if source.startswith("tfds:"):
        from amzrec.reviews.sources import saved

        return saved.open_tfds(engine, source, scratch)
    where = location.locate(source, scratch)
    if where.saved is not None:
        from amzrec.reviews.sources import saved

        return saved.open_saved(engine, source, where.saved, config, scratch)
    for path in where.files:
        check_gzip(path)
    format = config.format
    if format is None and config.columns is None and len(where.files) == 1:
        format = movielens.format_of(where.files[0])
    if format in movielens.FORMATS:
        return movielens.open_movielens(engine, source, where.files[0], format)
    return tables.open_tables(engine, where.name, where.files, config)


def sample_folder() -> Path:
    """Find the embedded sample: inside the installed package, or at the top of the source tree."""
    package = Path(__file__).parent.parent.parent
    for folder in (package / "data" / "sample", package.parent / "data" / "sample"):
        if folder.is_dir():
            return folder
    raise AmzrecError("the embedded sample is missing from this installation: install amzrec again, or name a SOURCE")


def name_of(source: str | Path | None) -> str:
    """Return a source as text; None is the folder of the embedded sample."""
    return str(sample_folder() if source is None else source)
