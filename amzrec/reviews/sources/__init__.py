"""Any review source → one relation: which layout it is, found from the content and said out loud."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from amzrec.config import PrepareConfig
from amzrec.errors import SILENT, AmzrecError, Progress
from amzrec.reviews.engines.protocol import Engine
from amzrec.reviews.relation import Facts, Source
from amzrec.reviews.sources import address, catalogue, databases, layouts, location, movielens, ratings, remote, tables
from amzrec.reviews.textfile import check_gzip

FORMATS: dict[str, str] = {  # what --format takes
    **{layout.name: layout.about for layout in layouts.LAYOUTS},
    **ratings.FORMATS,
    **movielens.FORMATS,
    "tensorflow": "a folder written by tf.data.Dataset.save",
    "tfds": "a name of tensorflow-datasets: tfds:movielens/100k",
    "table": "CSV, TSV, JSON lines or Parquet with --columns customer=…,product=…,stars=…",
}


def open_source(
    engine: Engine, source: str, config: PrepareConfig, scratch: Path, progress: Progress = SILENT
) -> Source:
    """Open a source on an engine, with the titles of --titles; `scratch` is a folder for copies.

    Raises AmzrecError where the source is missing, empty, or of no known layout.
    """
    if config.format is not None and config.format not in FORMATS:
        raise AmzrecError(f"--format is {config.format!r}; allowed: {', '.join(FORMATS)}")
    opened = open_reviews(engine, source, config, scratch, progress)
    if config.titles:
        opened = dataclasses.replace(opened, products={**opened.products, **facts_of(config.titles, scratch, progress)})
    return opened


def facts_of(titles: str, scratch: Path, progress: Progress) -> Facts:
    """Return the titles and features that --titles names: a file, files in a store, or a table of a database."""
    if databases.is_database(titles):
        return catalogue.read_titles(databases.titles_file(titles, scratch, progress), address.masked(titles))
    if not address.is_remote(titles):
        return catalogue.read_titles(Path(titles))
    there = remote.copied(titles, scratch, progress)
    facts: Facts = {}
    for file in location.locate(str(there.place), scratch).files:
        facts.update(catalogue.read_titles(file, there.called(file)))
    return facts


def open_reviews(engine: Engine, source: str, config: PrepareConfig, scratch: Path, progress: Progress) -> Source:
    """Open a source without --titles."""
    if databases.is_database(source):
        return databases.open_database(engine, source, config, scratch, progress)
    if config.table or config.query:
        raise AmzrecError(
            f"--{'table' if config.table else 'query'} is for databases, and {address.masked(source)} is none: name "
            "postgresql://host/db, sqlite:///file.db or an SQLite file, or leave it out"
        )
    if source.startswith("tfds:"):
        from amzrec.reviews.sources import saved

        return saved.open_tfds(engine, source, scratch)
    if address.is_remote(source):
        return open_remote(engine, source, config, scratch, progress)
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


def open_remote(engine: Engine, source: str, config: PrepareConfig, scratch: Path, progress: Progress) -> Source:
    """Open a source in an object store or on a web server, through a copy on this machine."""
    there = remote.copied(source, scratch, progress)
    try:
        opened = open_reviews(engine, str(there.place), config, scratch, progress)
    except AmzrecError as error:
        text = str(error).replace(f"{there.place}", there.shown)
        raise AmzrecError(text) from error
    parts = tuple(dataclasses.replace(part, called=there.called(part.file)) for part in opened.parts)
    return dataclasses.replace(opened, name=there.shown, parts=parts, fingerprint=there.fingerprint)


def fingerprint_of(source: str) -> str | None:
    """Return 16 hex digits of the content of a source, without opening it; None where only reading it all can tell."""
    if databases.is_database(source):
        return None
    return remote.fingerprint_of(source) if address.is_remote(source) else location.fingerprint_of(source)


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
