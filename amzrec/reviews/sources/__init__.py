"""Any review source → one relation: which layout it is, found from the content and said out loud."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from amzrec.config import PrepareConfig
from amzrec.errors import SILENT, AmzrecError, Progress
from amzrec.reviews.engines.protocol import Engine
from amzrec.reviews.relation import Facts, Meaning, Source
from amzrec.reviews.sources import address, catalogue, databases, layouts, location, movielens, ratings, remote, tables
from amzrec.reviews.sources.plain import TextFile, Writing, made_plain
from amzrec.reviews.sources.remote import Copied
from amzrec.reviews.textfile import check_gzip

FORMATS: dict[str, str] = {  # what --format takes
    **{layout.name: layout.about for layout in layouts.LAYOUTS},
    **ratings.FORMATS,
    **movielens.FORMATS,
    "tensorflow": "a folder written by tf.data.Dataset.save",
    "tfds": "a name of tensorflow-datasets: tfds:movielens/100k",
    "table": "CSV, TSV, JSON lines or Parquet with --columns customer=…,product=…,stars=…",
}


@dataclasses.dataclass
class Known:
    """What a first reading of the sources has shown, for a second one."""

    writings: dict[str, Writing] = dataclasses.field(default_factory=dict)  # how files are written, by name
    copies: dict[str, Copied] = dataclasses.field(default_factory=dict)  # by address
    meaning: Meaning = dataclasses.field(default_factory=Meaning)
    opened: dict[str, Source] = dataclasses.field(default_factory=dict)  # databases, by address


def open_source(
    engine: Engine,
    names: str | tuple[str, ...],
    config: PrepareConfig,
    scratch: Path,
    progress: Progress = SILENT,
    known: Known | None = None,
) -> Source:
    """Open a source, or several files as one, on an engine, with the titles of --titles.

    `scratch` is a folder for copies; `known` is what an earlier reading has shown. Raises AmzrecError where the source
    is missing, empty, or of no known layout.
    """
    if config.format is not None and config.format not in FORMATS:
        raise AmzrecError(f"--format is {config.format!r}; allowed: {', '.join(FORMATS)}")
    opener = Opener(engine, config, scratch, progress, known or Known())
    opened = opener.several(names) if isinstance(names, tuple) and len(names) > 1 else opener.one("".join(names))
    if config.titles:
        opened = dataclasses.replace(opened, products={**opened.products, **opener.facts_of(config.titles)})
    return opened


@dataclasses.dataclass(frozen=True)
class Opener:
    """What all kinds of sources are opened with."""

    engine: Engine
    config: PrepareConfig
    scratch: Path
    progress: Progress
    known: Known

    def one(self, source: str) -> Source:
        """Open one source."""
        if databases.is_database(source):
            return self.database(source)
        if self.config.table or self.config.query:
            flag = "--table" if self.config.table else "--query"
            raise AmzrecError(
                f"{flag} is for databases, and {address.masked(source)} is none: "
                "name postgresql://host/db, sqlite:///file.db or an SQLite file, or leave it out"
            )
        if source.startswith("tfds:"):
            from amzrec.reviews.sources import saved

            return saved.open_tfds(self.engine, source, self.scratch)
        return self.remote(source) if address.is_remote(source) else self.local(source)

    def database(self, source: str) -> Source:
        """Open a database; what it holds is read once."""
        if source not in self.known.opened:
            self.known.opened[source] = databases.open_database(
                self.engine, source, self.config, self.scratch, self.progress
            )
        return self.known.opened[source]

    def local(self, source: str) -> Source:
        """Open a file, a folder, a glob or an archive of this machine."""
        where = location.locate(source, self.scratch)
        if where.saved is not None:
            from amzrec.reviews.sources import saved

            return saved.open_saved(self.engine, source, where.saved, self.config, self.scratch)
        format = self.config.format
        if format is None and self.config.columns is None and len(where.files) == 1:
            format = movielens.format_of(where.files[0].path)
        if format in movielens.FORMATS:
            check_gzip(where.files[0].path)
            return movielens.open_movielens(self.engine, source, where.files[0], format)
        return self.tables(source, where.files)

    def remote(self, source: str) -> Source:
        """Open a source in an object store or on a web server, through a copy on this machine."""
        there = self.copied(source)
        try:
            opened = self.local(str(there.place))
        except AmzrecError as error:
            text = str(error).replace(f"{there.place}", there.shown)
            raise AmzrecError(text) from error
        parts = tuple(
            dataclasses.replace(part, called=there.called(Path(part.called or part.file))) for part in opened.parts
        )
        return dataclasses.replace(opened, name=there.shown, parts=parts, fingerprint=there.fingerprint)

    def copied(self, source: str) -> Copied:
        """Return the copy of a remote source, made once."""
        if source not in self.known.copies:
            self.known.copies[source] = remote.copied(source, self.scratch, self.progress)
        return self.known.copies[source]

    def several(self, names: tuple[str, ...]) -> Source:
        """Open several files, folders or globs as one table."""
        files: list[TextFile] = []
        for name in names:
            if databases.is_database(name):
                raise AmzrecError(f"{address.masked(name)} is a database, which is a source of its own: name it alone")
            there = self.copied(name) if address.is_remote(name) else None
            place = location.locate(str(there.place) if there else name, self.scratch)
            if place.saved:
                raise AmzrecError("a folder of tf.data.Dataset.save is a source of its own: name it alone")
            files += [
                dataclasses.replace(file, name=there.called(Path(file.name))) if there else file for file in place.files
            ]
        return self.tables(", ".join(address.masked(name) for name in names), tuple(files))

    def tables(self, name: str, files: tuple[TextFile, ...]) -> Source:
        """Open files as one table."""
        return tables.open_tables(self.engine, name, files, self.config, self.scratch, self.known.writings)

    def facts_of(self, titles: str) -> Facts:
        """Return the titles and features that --titles names: files, files in a store, or a table of a database."""
        if databases.is_database(titles):
            rows = databases.titles_file(titles, self.scratch, self.progress)
            return catalogue.read_titles(rows, address.masked(titles))
        there = self.copied(titles) if address.is_remote(titles) else None
        try:
            files = location.locate(str(there.place) if there else titles, self.scratch).files
        except AmzrecError as error:
            raise AmzrecError(f"--titles: {error}") from error
        facts: Facts = {}
        for file in files:
            plain, _ = made_plain(file, self.scratch, Writing())
            called = there.called(Path(file.name)) if there else file.name
            facts.update(catalogue.read_titles(plain.path, called))
        return facts


def fingerprint_of(names: str | tuple[str, ...]) -> str | None:
    """Return 16 hex digits of the content of a source, without opening it; None where only reading it all can tell."""
    names = (names,) if isinstance(names, str) else names
    prints = [print_of(name) for name in names]
    if None in prints:
        return None
    return prints[0] if len(prints) == 1 else hashlib.md5("".join(map(str, prints)).encode()).hexdigest()[:16]


def print_of(name: str) -> str | None:
    """Return 16 hex digits of the content of one source, None where only reading it all can tell."""
    if databases.is_database(name):
        return None
    return remote.fingerprint_of(name) if address.is_remote(name) else location.fingerprint_of(name)


def sample_folder() -> Path:
    """Find the embedded sample: inside the installed package, or at the top of the source tree."""
    package = Path(__file__).parent.parent.parent
    for folder in (package / "data" / "sample", package.parent / "data" / "sample"):
        if folder.is_dir():
            return folder
    raise AmzrecError("the embedded sample is missing from this installation: install amzrec again, or name a SOURCE")
