"""New reviews read as those of a run were: products named the same way, stars that mean the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError, Progress
from amzrec.reviews.cache import prepared
from amzrec.settings import pairs_text
from amzrec.store.dataset import INFO, Dataset, DatasetInfo, is_dataset, open_dataset
from amzrec.store.folders import private_cache, scratch_folder
from amzrec.store.run import Run


@contextlib.contextmanager
def new_reviews(run: Run, reviews: Any, config: PrepareConfig, progress: Progress) -> Iterator[Dataset]:
    """Give new reviews as a dataset, all of them in train, for a `with` block; a dataset folder is taken as it is.

    `config` says how they are read; what names a product, and whether there are stars, is as the run has it. Raises
    AmzrecError as `prepare` does.
    """
    folder = isinstance(reviews, str | Path) and is_dataset(Path(reviews))
    if isinstance(reviews, Dataset) or folder:
        yield named_alike(run, open_dataset(reviews) if folder else reviews)
        return
    with scratch_folder(private_cache()) as scratch:
        yield read(run, reviews, scratch / "reviews", config, progress)


def named_alike(run: Run, dataset: Dataset) -> Dataset:
    """Return a dataset; AmzrecError where its products are named otherwise than those of the run."""
    mine, theirs = run.info.protocol, dataset.protocol
    if mine is not None and mine.product_key != theirs.product_key:
        raise AmzrecError(
            f"the products of {dataset.path} are named by their {theirs.product_key}, those of run {run.path} by their "
            f"{mine.product_key}: name the source of the reviews instead, which is then read as the run's was"
        )
    return dataset


def read(run: Run, reviews: Any, folder: Path, config: PrepareConfig, progress: Progress) -> Dataset:
    """Prepare new reviews into a dataset folder in the likeliest of the `ways` that is one."""
    key = run.info.protocol.product_key if run.info.protocol else "auto"
    rated = run.vectors.head.mean is not None
    config = config.replace(
        product_key=key,
        stars_are=config.stars_are or ("stars" if rated else "clicks"),
        split="random",
        test=0.0,
        valid=0.0,
        test_source=None,
        min_reviews=0,
    )
    wrong: AmzrecError | None = None
    for way in ways(run, reviews, config):
        try:
            return prepared(reviews, folder, way, progress=progress)
        except AmzrecError as error:
            wrong = wrong or error
    assert wrong is not None
    raise wrong


def ways(run: Run, reviews: Any, config: PrepareConfig) -> list[PrepareConfig]:
    """List how new reviews may be read, the likeliest first.

    A table is read by the columns that were named for the run, if it has them. One without the column that names
    products in the run has their names as ids, as the events of the service do.
    """
    from amzrec.reviews.sources.databases import is_database

    found = [config, config.replace(product_key="id")] if config.product_key in ("parent", "title") else [config]
    if config.columns or config.format or not isinstance(reviews, str | Path) or is_database(str(reviews)):
        return found
    named = columns_of(run)
    return [config.replace(columns=named), *found] if named else found


def columns_of(run: Run) -> str | None:
    """Return the columns of the run's own source, as --columns takes them; None where they were not named."""
    from amzrec.reviews.sources.columns import OURS

    folder = Path(run.info.dataset) if run.info.dataset else None
    if folder is None or not is_dataset(folder):
        return None
    info = DatasetInfo.read(folder / INFO, "prepare it again")
    if info.format != "table" or not info.columns:
        return None
    theirs = {name: info.columns[ours] for name, ours in OURS.items() if ours in info.columns}
    return pairs_text(theirs)
