"""`amzrec compare`: rating only, retrieval only and joint on one dataset beside the baselines, table and picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from amzrec.commands.evaluate import check_test, evaluate, kept_figures, write_json
from amzrec.config import PrepareConfig, TrainConfig
from amzrec.errors import SILENT, Progress
from amzrec.evaluation import metrics
from amzrec.reviews.cache import dataset_of, sources_of
from amzrec.store.folders import whole_file
from amzrec.store.ownership import RUN_FOLDER, check_file, check_folder, is_comparison, is_picture
from amzrec.store.run import RUNS

MODELS = {"rating": (1.0, 0.0), "retrieval": (0.0, 1.0), "joint": (1.0, 1.0)}  # (rating, retrieval) weights; joint last
COMPARISON = "comparison.json"
PICTURE = "comparison.png"


def compare(
    source: Any = None,
    config: TrainConfig | None = None,
    *,
    prepare: PrepareConfig | None = None,
    root: Path | str = RUNS,
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Train the three models of MODELS into `root` and measure them on the same rows.

    `config` gives every other setting; its weights are those of the joint model where both are above 0. Returns and
    writes {"protocol", "models": {name: figures}, "baselines", "differences": {name: …}, "untrained": {name: …},
    "runs", "picture"}, each part as in metrics.json; the picture leaves out what was not trained. Runs that are in
    the way are refused before anything is trained, unless `overwrite`, and so is a dataset without test reviews.
    `resume` goes on with a comparison that was interrupted: runs of these settings that are there are kept.
    """
    from amzrec.commands.train import train

    root, config = Path(root), config or TrainConfig()
    kind = dataclasses.replace(RUN_FOLDER, flag="--root")
    for name in MODELS:
        check_folder(root / name, kind, overwrite or resume, sources_of(source, prepare))
    check_file(root / COMPARISON, "the comparison", is_comparison)
    if not (root / COMPARISON).exists():
        check_file(root / PICTURE, "the picture", is_picture)
    dataset = dataset_of(source, prepare, progress=progress)
    check_test(dataset)
    measured, runs = dict[str, Any](), dict[str, str]()
    for name, weights in MODELS.items():
        if name == "joint" and config.rating_weight > 0 and config.retrieval_weight > 0:
            weights = (config.rating_weight, config.retrieval_weight)
        settings = config.replace(rating_weight=weights[0], retrieval_weight=weights[1])
        progress.say(f"Training {name} (rating weight {weights[0]:g}, retrieval weight {weights[1]:g})")
        run = train(dataset, root / name, settings, overwrite=overwrite, resume=resume, progress=progress)
        figures = kept_figures(run) if resume else None
        measured[name], runs[name] = figures or evaluate(run, dataset, progress=progress), str(run.path)
    joint = measured["joint"]
    document = {
        "protocol": joint["protocol"],
        "models": {name: figures["model"] for name, figures in measured.items()},
        "baselines": joint["baselines"],
        "differences": {name: figures["differences"] for name, figures in measured.items()},
        "untrained": {name: figures["untrained"] for name, figures in measured.items()},
        "runs": runs,
        "picture": str(root / PICTURE),
    }
    from amzrec.evaluation import pictures

    with whole_file(root / PICTURE, "the picture") as partial:
        shown = {
            name: metrics.without_untrained(figures["model"], figures["untrained"])
            for name, figures in measured.items()
        }
        pictures.draw_comparison(document | {"models": shown}, partial)
    write_json(root / COMPARISON, document)
    return document
