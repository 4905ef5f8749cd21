"""The dataset of a source: a dataset folder itself, or the source prepared once into the cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path

from amzrec import __version__
from amzrec.config import PrepareConfig
from amzrec.errors import SILENT, AmzrecError, Progress
from amzrec.reviews.textfile import content_of
from amzrec.store.dataset import Dataset, is_dataset, open_dataset
from amzrec.store.folders import whole_folder
from amzrec.store.ownership import DATASET_FOLDER

# Settings that are in the key as fingerprints of files, or do not change the dataset
NOT_IN_KEY = ("test_source", "titles", "spark_master")


def dataset_of(
    source: str | Path | Dataset | None, config: PrepareConfig | None = None, *, progress: Progress = SILENT
) -> Dataset:
    """Return the dataset itself, the dataset folder of that name, or the source prepared into the cache.

    None is the embedded sample. Raises AmzrecError as `prepared` does, and for settings beside a dataset folder.
    """
    if isinstance(source, Dataset):
        return source
    if source is not None and is_dataset(Path(source)):
        if config is not None and config != PrepareConfig():
            raise AmzrecError(
                f"{source} is a prepared dataset: how it was split is fixed. Give the options to amzrec prepare"
            )
        return open_dataset(source)
    return cached(source, config or PrepareConfig(), progress)


def cached(source: str | Path | None, config: PrepareConfig, progress: Progress = SILENT) -> Dataset:
    """Return the dataset of this source and these settings from the cache, prepared where it is not there yet."""
    from amzrec.reviews import sources
    from amzrec.reviews.sources import location

    name = sources.name_of(source)
    with tempfile.TemporaryDirectory() as folder:
        if name == location.STDIN:
            name = str(location.spooled(Path(folder)))
        prints = [sources.fingerprint_of(s) for s in (name, config.test_source, config.titles) if s]
        if None in prints:
            return anew(name, config, progress)
        kept = cache_folder() / key_of(prints, config)
        return open_dataset(kept) if is_dataset(kept) else prepared(name, kept, config, True, progress)


def key_of(prints: list[str | None], config: PrepareConfig) -> str:
    """Return the name in the cache of sources with these fingerprints, prepared with these settings."""
    settings = {key: value for key, value in config.to_json().items() if key not in NOT_IN_KEY}
    return hashlib.md5(json.dumps([prints, settings, __version__]).encode()).hexdigest()[:16]


def anew(name: str, config: PrepareConfig, progress: Progress) -> Dataset:
    """Prepare a source that may have changed since it was last read, such as a database.

    The dataset is kept under a name of its own content: runs that were trained on an older one still find that.
    """
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".anew-", dir=cache_folder()) as folder:
        made = prepared(name, Path(folder) / "dataset", config, True, progress)
        kept = cache_folder() / key_of([content_of(sorted(made.path.iterdir()))], config)
        if not is_dataset(kept):
            with contextlib.suppress(OSError):  # another process has just put one of the same content there
                made.path.rename(kept)
    return open_dataset(kept)


def prepared(
    source: str | Path | None, out: Path, config: PrepareConfig, overwrite: bool = False, progress: Progress = SILENT
) -> Dataset:
    """Prepare a source into the dataset folder `out`.

    Raises AmzrecError where the source is missing, of no known layout or too dirty, and where `out` exists already.
    """
    from amzrec.reviews import sources
    from amzrec.reviews.preparation import Preparation

    name = sources.name_of(source)
    read = (None if source is None else name, config.test_source, config.titles)
    with whole_folder(out, DATASET_FOLDER, overwrite, read) as folder:
        Preparation(name, config, folder, progress).run()
    return open_dataset(out)


def cache_folder() -> Path:
    """Return where `train SOURCE` keeps prepared datasets: AMZREC_CACHE, or amzrec in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("AMZREC_CACHE") or Path(base) / "amzrec")
