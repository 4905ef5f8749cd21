"""prepare: any review source → a dataset folder, cleaned, counted, split and encoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amzrec.config import PrepareConfig
from amzrec.errors import SILENT, Progress
from amzrec.reviews.cache import prepared
from amzrec.store.dataset import Dataset


def prepare(
    source: Any,
    out: Path | str,
    config: PrepareConfig | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Dataset:
    """Read, clean, split and encode a source into the dataset folder `out`.

    A source is a path or another name of `docs/sources.md`, a list of paths, or a table of pandas, Polars or Arrow;
    None is the embedded sample. Raises AmzrecError where the source is missing, of no known layout or too dirty, and
    where `out` exists already.
    """
    return prepared(source, Path(out), config or PrepareConfig(), overwrite, progress)
