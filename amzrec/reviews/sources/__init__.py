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
from amzrec.store.dataset import is_dataset

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
    copies: dict[str, Copied] = dataclasses.field(default_factory=dict)  # by address, or by the path of the copy
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
        self.check_flags(source)
        if source.startswith("tfds:"):
            from amzrec.reviews.sources import saved

            return saved.open_tfds(self.engine, source, self.scratch)
        is_copied = address.is_remote(source) or source in self.known.copies
        return self.remote(source) if is_copied else self.local(source)

    def check_flags(self, source: str) -> None:
        """Raise AmzrecError where --table or --query was given, for a source that is no database."""
        if self.config.table or self.config.query:
            flag = "--table" if self.config.table else "--query"
            raise AmzrecError(
                f"{flag} is for databases, and {address.masked(source)} is none: "
                "name postgresql://host/db, mysql://host/db, sqlite:///file.db or an SQLite file, or leave it out"
            )

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
        """Open a source in an object store, on a web server or in standard input, through a copy on this machine."""
        there = self.copied(source)
        try:
            opened = self.local(str(there.place))
        except AmzrecError as error:
            text = str(error).replace(f"{there.place}", there.shown)
            raise AmzrecError(text) from error
        parts = tuple(
            dataclasses.replace(part, called=there.called(Path(part.called or part.file))) for part in opened.parts
        )
        notes = tuple(note.replace(f"{there.place}", there.shown) for note in opened.notes)
        return dataclasses.replace(opened, name=there.shown, parts=parts, notes=notes, fingerprint=there.fingerprint)

    def copied(self, source: str) -> Copied:
        """Return the copy of a remote source, made once."""
        if source not in self.known.copies:
            self.known.copies[source] = remote.copied(source, self.scratch, self.progress)
        return self.known.copies[source]

    def several(self, names: tuple[str, ...]) -> Source:
        """Open several files, folders or globs as one table; a file that is named twice is read once."""
        files: dict[Path, TextFile] = {}
        twice: list[str] = []
        for name in names:
            for file in self.files_of(name):
                known = files.setdefault(file.path.resolve(), file)
                twice += [file.name] if known is not file else []
        opened = self.tables(", ".join(map(address.masked, names)), tuple(files.values()))
        prints = [
            self.known.copies[name].fingerprint if name in self.known.copies else print_of(name) for name in names
        ]
        notes = (*opened.notes, *(f"{name} is named twice, and read once" for name in dict.fromkeys(twice)))
        return dataclasses.replace(opened, notes=notes, fingerprint=joined(prints) or "")

    def files_of(self, name: str) -> list[TextFile]:
        """Return the files of one of several names; raises AmzrecError for what can only be read alone."""
        self.check_flags(name)
        shown = address.masked(name)
        kinds = {
            "a database": databases.is_database(name),
            "a dataset of TensorFlow": name.startswith("tfds:"),
            "a prepared dataset": is_dataset(Path(name)),
        }
        if kind := next((kind for kind, is_one in kinds.items() if is_one), None):
            raise AmzrecError(f"{shown} is {kind}, which is a source of its own: name it alone")
        there = self.copied(name) if address.is_remote(name) else None
        place = location.locate(str(there.place) if there else name, self.scratch)
        if place.saved:
            raise AmzrecError(f"{shown} is saved by TensorFlow, which is a source of its own: name it alone")
        known = movielens.format_of(place.files[0].path) if len(place.files) == 1 else None
        if known in movielens.FORMATS and not self.config.columns:
            raise AmzrecError(f"{shown} is of MovieLens ({known}), which is a source of its own: name it alone")
        named = len(place.files) == 1
        return [
            dataclasses.replace(file, name=there.called(Path(file.name)) if there else file.name, named=named)
            for file in place.files
        ]

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
            text = str(error).replace(location.REMEDY, "name a file of products with their titles")
            raise AmzrecError(f"--titles: {text}") from error
        facts: Facts = {}
        problems: list[AmzrecError] = []
        for file in files:
            plain, _ = made_plain(file, self.scratch, Writing())
            called = there.called(Path(file.name)) if there else file.name
            try:
                found = catalogue.read_titles(plain.path, called)
                facts |= {key: fact for key, fact in found.items() if fact[0] or key not in facts}
            except AmzrecError as error:  # a sheet or a file of something else, beside the one of titles
                problems.append(error)
        if problems and not facts:
            raise problems[0]
        return facts


def fingerprint_of(names: str | tuple[str, ...]) -> str | None:
    """Return 16 hex digits of the content of a source, without opening it; None where only reading it all can tell."""
    return joined([print_of(name) for name in ((names,) if isinstance(names, str) else names)])


def joined(prints: list[str | None]) -> str | None:
    """Return 16 hex digits of several fingerprints; None where one of them is unknown."""
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
