"""The dataset of a source: a dataset folder itself, or the source prepared once into the cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amzrec import __version__
from amzrec.config import PrepareConfig
from amzrec.errors import SILENT, AmzrecError, Progress
from amzrec.reviews.textfile import content_of
from amzrec.store.dataset import Dataset, is_dataset, open_dataset
from amzrec.store.folders import cache_folder, private_cache, remove, scratch_folder, sweep, whole_folder
from amzrec.store.ownership import DATASET_FOLDER, check_folder

if TYPE_CHECKING:
    from amzrec.reviews.sources.origin import Origin

# Settings that are in the key as fingerprints of files, or do not change the dataset
NOT_IN_KEY = ("test_source", "titles", "spark_master")


def dataset_of(source: Any = None, config: PrepareConfig | None = None, *, progress: Progress = SILENT) -> Dataset:
    """Return the dataset itself, the dataset folder of that name, or the source prepared into the cache.

    A source is what `amzrec prepare` takes; None is the embedded sample. Raises AmzrecError as `prepared` does, and for
    settings beside a dataset folder.
    """
    if isinstance(source, Dataset):
        return source
    if isinstance(source, str | Path) and is_dataset(Path(source)):
        if config is not None and config != PrepareConfig():
            raise AmzrecError(
                f"{source} is a prepared dataset: how it was split is fixed. Give the options to amzrec prepare"
            )
        return open_dataset(source)
    return cached(source, config or PrepareConfig(), progress)


def cached(source: Any, config: PrepareConfig, progress: Progress = SILENT) -> Dataset:
    """Return the dataset of this source and these settings from the cache, prepared where it is not there yet."""
    from amzrec.reviews import sources
    from amzrec.reviews.sources.origin import origin_of

    sweep(cache_folder())
    with scratch_folder() as folder:
        origin = origin_of(source, folder, sources.sample_folder)
        check_standard_input(origin, config)
        prints = [sources.fingerprint_of(s) for s in (origin.names, config.test_source, config.titles) if s]
        if None in prints:
            return anew(origin, config, progress)
        kept = cache_folder() / key_of(prints, config)
        if found := whole_one(kept, progress):
            return found
        private_cache()
        return written(origin, kept, config, True, progress, private=True)


def whole_one(kept: Path, progress: Progress) -> Dataset | None:
    """Open a dataset folder of the cache; None, and it is removed, where it is not there, not whole, or damaged."""
    if not kept.exists():
        return None
    try:
        if is_dataset(kept):
            dataset = open_dataset(kept)
            dataset.check_files()
            return dataset
        reason = f"{kept} is not whole"
    except AmzrecError as error:
        reason = str(error).partition(". Prepare it again")[0]
    progress.say(f"what the cache held is made anew: {reason}")
    remove(kept)
    return None


def key_of(prints: list[str | None], config: PrepareConfig) -> str:
    """Return the name in the cache of sources with these fingerprints, prepared with these settings."""
    settings = {key: value for key, value in config.to_json().items() if key not in NOT_IN_KEY}
    return hashlib.md5(json.dumps([prints, settings, __version__]).encode()).hexdigest()[:16]


def anew(origin: Origin, config: PrepareConfig, progress: Progress) -> Dataset:
    """Prepare a source that may have changed since it was last read, such as a database.

    The dataset is kept under a name of its own content: runs that were trained on an older one still find that.
    """
    with scratch_folder(private_cache()) as folder:
        made = written(origin, folder / "dataset", config, True, progress, private=True)
        facts = json.dumps(made.info.to_json() | {"identity": ""}, sort_keys=True)
        kept = cache_folder() / key_of([content_of(sorted(made.path.glob("*.parquet"))), facts], config)
        if whole_one(kept, progress) is None:
            with contextlib.suppress(OSError):  # another process has just put one of the same content there
                made.path.rename(kept)
    return open_dataset(kept)


def prepared(
    source: Any, out: Path, config: PrepareConfig, overwrite: bool = False, progress: Progress = SILENT
) -> Dataset:
    """Prepare a source into the dataset folder `out`.

    Raises AmzrecError where the source is missing, of no known layout or too dirty, and where `out` exists already.
    """
    from amzrec.reviews import sources
    from amzrec.reviews.sources.origin import origin_of

    read = sources_of(source, config)
    check_folder(out, DATASET_FOLDER, overwrite, read)  # before anything is read
    with scratch_folder() as folder:
        origin = origin_of(source, folder, sources.sample_folder)
        check_standard_input(origin, config)
        return written(origin, out, config, overwrite, progress, read)


def check_standard_input(origin: Origin, config: PrepareConfig) -> None:
    """Raise AmzrecError where more than one source is standard input, which can be read once."""
    from amzrec.reviews.sources.address import STDIN

    flags = {"--titles": config.titles, "--test-source": config.test_source}
    readers = ["SOURCE"] * origin.names.count(STDIN) + [flag for flag, name in flags.items() if name == STDIN]
    if len(readers) > 1:
        raise AmzrecError(
            f"- is standard input, which can be read once, but stands for {' and for '.join(readers)}: "
            "name a file for one of them"
        )


def written(
    origin: Origin,
    out: Path,
    config: PrepareConfig,
    overwrite: bool,
    progress: Progress,
    read: Sequence[str | Path] = (),
    private: bool = False,
) -> Dataset:
    """Write the dataset folder `out` of reviews that can be opened; `read` are the files that it must not replace.

    `private`: nobody else may read it.
    """
    from amzrec.reviews.preparation import Preparation

    with whole_folder(out, DATASET_FOLDER, overwrite, read, private) as folder:
        Preparation(origin, config, folder, progress).run()
    return open_dataset(out)


def sources_of(source: Any, config: PrepareConfig | None) -> list[str | Path]:
    """List the files and folders that are read: of a source, of --test-source and of --titles."""
    paths = (
        [source.path] if isinstance(source, Dataset) else list(source) if isinstance(source, list | tuple) else [source]
    )
    paths += [config.test_source, config.titles] if config else []
    return [path for path in paths if isinstance(path, str | Path)]
