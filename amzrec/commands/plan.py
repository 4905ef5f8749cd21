"""`amzrec plan`: what a training will take, in memory and in time, before it begins."""

from __future__ import annotations

from typing import Any

from amzrec.commands.train import recipe_for
from amzrec.config import PrepareConfig, TrainConfig
from amzrec.errors import SILENT, Progress
from amzrec.planning.machine import memory_available
from amzrec.reviews.cache import dataset_of


def plan(
    source: Any = None,
    config: TrainConfig | None = None,
    *,
    prepare: PrepareConfig | None = None,
    calibrate: bool = True,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Count a source, prepared into the cache as `train` does it, or a dataset folder, and plan its training.

    With `calibrate` a few real steps are trained to take the time, some ten seconds; without, "seconds" is None. Bytes
    are those of a stage at its peak; seconds are those where all epochs are trained, while patience often ends earlier.

    Returns {"source", "rows", "customers", "products", "own_vectors", "parameters", "batch_size", "steps", "epochs",
    "memory", "seconds", "seconds_in_all", "fits", "changes"}; "changes" are settings to choose from where it does not
    fit. Raises AmzrecError as `train` does before its first step.
    """
    from amzrec.planning.calibration import calibrate as measured
    from amzrec.planning.report import document_of
    from amzrec.planning.sizes import sizes_of

    dataset = dataset_of(source, prepare, progress=progress)
    recipe = recipe_for(dataset, config or TrainConfig(), progress)
    sizes, available = sizes_of(dataset, recipe), memory_available()
    found = measured(dataset, recipe, progress) if calibrate else None
    return document_of(dataset, recipe, sizes, available, found)
