"""The table files of a folder: which there are, what their paths say of them, and whether they are parts of a split."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from urllib.parse import unquote

from amzrec.errors import AmzrecError
from amzrec.reviews.sources import sheets
from amzrec.reviews.sources.plain import TextFile
from amzrec.store.ownership import KINDS

TABLES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".inter")
SOMETIMES = (".txt", ".dat", ".data", ".tab", *sheets.ENDINGS)  # tables where a folder has no others
PACKED = (".gz", ".bz2", ".xz", ".zst")
NOTHING = "__HIVE_DEFAULT_PARTITION__"  # Hive's name for null
TRAIN, TEST = re.compile(r"train(ing)?\b", re.IGNORECASE), re.compile(r"test(ing)?\b", re.IGNORECASE)
MARKERS = [kind.marker for kind in KINDS]  # of folders that amzrec itself wrote


def table_files(folder: Path, name: str) -> tuple[TextFile, ...]:
    """List the table files of a folder in the order of their paths; `name` is what the folder is called.

    Hidden files are left out, and folders that amzrec wrote. Raises AmzrecError where there are none.
    """
    ours = {marker.parent for kind in MARKERS for marker in folder.rglob(kind) if marker.parent != folder}
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not hidden(path.relative_to(folder))]
    files = [path for path in files if not any(path.is_relative_to(other) for other in ours)]
    tables = [path for path in files if has_ending(path, TABLES)] or [p for p in files if has_ending(p, SOMETIMES)]
    if not tables:
        names = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise AmzrecError(
            f"{name} has no known layout (it holds {names}): folders of MovieLens, of tf.data.Dataset.save and of "
            f"tables ({', '.join(TABLES)}, also compressed) are read"
        )
    return tuple(
        TextFile(str(Path(name) / path.relative_to(folder)), path, partition_of(name / path.relative_to(folder)))
        for path in tables
    )


def is_table(path: Path) -> bool:
    """Return whether the path of a file in a folder is one of a table, and not hidden."""
    return has_ending(path, TABLES) and not hidden(path)


def hidden(path: Path) -> bool:
    """Return whether the path of a file in a folder is hidden, or that of a system, such as __MACOSX."""
    return any(name.startswith((".", "_")) for name in path.parts)


def has_ending(path: Path, endings: tuple[str, ...]) -> bool:
    """Return whether a file name ends so, before the ending of a compressed file."""
    name = path.name.lower()
    for packing in PACKED:
        name = name.removesuffix(packing)
    return name.endswith(endings)


def partition_of(path: Path) -> dict[str, str | None]:
    """Return the columns that the folders of a path name, as Hive does: rating=5/part-0.parquet has rating 5."""
    pairs = [name.partition("=") for name in path.parts[:-1] if "=" in name]
    return {column: None if value == NOTHING else unquote(value) for column, _, value in pairs}


def parts_note(files: list[TextFile]) -> list[str]:
    """Return what to tell where some files are called train and others test: that they are read together."""
    tests = [file for file in files if TEST.match(Path(file.name).name) or TEST.match(Path(file.name).parent.name)]
    trains = [file for file in files if TRAIN.match(Path(file.name).name) or TRAIN.match(Path(file.name).parent.name)]
    if not tests or not trains:
        return []
    return [
        f"the parts {Path(trains[0].name).name} and {Path(tests[0].name).name} are read together and split anew; to "
        f"keep that split: {shlex.quote(trains[0].name)} --split given --test-source {shlex.quote(tests[0].name)}"
    ]
