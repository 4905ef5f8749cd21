"""Commands that read reviews: one function each, with a parameter per flag, calls the verb and prints its document."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from amzrec.cli.flags import with_settings
from amzrec.cli.options import (
    Json,
    Overwrite,
    Resume,
    RunArgument,
    Sources,
    SourcesOrDataset,
    Track,
    TrainStrategy,
)
from amzrec.cli.speech import can_go_on, one_or_several, show, speaking, tracking
from amzrec.config import PrepareConfig, TrainConfig
from amzrec.errors import AmzrecError


@with_settings(prepare=PrepareConfig, shown=("titles", "product_key", "min_reviews", "test"))
def prepare(
    source: Sources = None,
    *,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Dataset folder to write.")],
    prepare: PrepareConfig | None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Clean, split and encode reviews into a folder."""
    from amzrec.cli import reports
    from amzrec.commands.prepare import prepare as verb

    with speaking() as voice:
        dataset = verb(one_or_several(source), out, prepare, overwrite=overwrite, progress=voice)
    info = dataset.info.to_json()
    show(info, json, lambda: f"{reports.prepared(info['counts'])}\n\nNext:  amzrec train {reports.quoted(out)}")


@with_settings(prepare=PrepareConfig, shown=("titles", "product_key", "min_reviews"))
def describe(
    source: SourcesOrDataset = None,
    *,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Picture to draw, a PNG file.")] = None,
    prepare: PrepareConfig | None,
    json: Json = False,
) -> None:
    """Tell what reviews hold, before anything is learned.

    Counts rows, customers, products, stars and time, the test reviews of unknown customers and products, and says what
    the baselines reach.
    """
    from amzrec.cli import reports
    from amzrec.commands.describe import describe as verb

    with speaking() as voice:
        document = verb(one_or_several(source), prepare, out=out, progress=voice)
    show(document, json, lambda: reports.description(document))


@with_settings(prepare=PrepareConfig, config=TrainConfig, renamed={"seed": "split_seed"})
def plan(
    source: SourcesOrDataset = None,
    *,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate/--no-calibrate", help="Train a few steps, in some ten seconds, to take the time."),
    ] = True,
    prepare: PrepareConfig | None,
    config: TrainConfig | None,
    json: Json = False,
) -> None:
    """Tell what a training takes before it begins.

    Prints parameters, memory and seconds by stage, and what to change where it does not fit. Takes the flags of train.
    """
    from amzrec.cli import plans
    from amzrec.commands.plan import plan as verb

    with speaking() as voice:
        document = verb(one_or_several(source), config, prepare=prepare, calibrate=calibrate, progress=voice)
    show(document, json, lambda: plans.planned(document))


@with_settings(prepare=PrepareConfig, config=TrainConfig, renamed={"seed": "split_seed"})
def train(
    source: SourcesOrDataset = None,
    *,
    run: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Run folder to write. Without it: joint, rating or retrieval under runs/."),
    ] = None,
    prepare: PrepareConfig | None,
    config: TrainConfig | None,
    recipe: Path | None = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="Run to go on from: what it has learned is kept, and a few epochs add what is new, in a tenth of the "
            "time. Settings and split are those of that run.",
        ),
    ] = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    strategy: TrainStrategy = "auto",
    checkpoint_every: Annotated[
        str | None,
        typer.Option(
            metavar="TIME|STEPS",
            help="How often to save what --resume goes on from: 90s, 10m, 2h, or a number of steps such as 500. "
            "Without it, at the ends of epochs, 30 s apart or more, and within epochs each 10 minutes.",
            hidden=True,
        ),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", hidden=True, help="Write logs for TensorBoard as well.")
    ] = False,
    anyway: Annotated[
        bool,
        typer.Option("--anyway", hidden=True, help="Train also where the plan says that memory does not suffice."),
    ] = False,
    track: Track = None,
    json: Json = False,
) -> None:
    """Train, evaluate, and print the model beside baselines.

    Trains on reviews or on a dataset folder, writes a run folder, and measures it on the test reviews, if any.
    """
    from amzrec.cli import reports
    from amzrec.commands.evaluate import evaluate, kept_figures
    from amzrec.commands.train import train as verb

    choices: dict[str, Any] = {"overwrite": overwrite, "resume": resume, "tensorboard": tensorboard}
    choices |= {"checkpoint_every": checkpoint_every, "anyway": anyway, "start": start, "strategy": strategy}
    choices["repeats"] = recipe if recipe is not None and recipe.is_dir() else None
    with tracking(track) as keep:
        with speaking() as voice:
            trained = verb(one_or_several(source), run, config, prepare=prepare, progress=voice, **choices)
            document = kept_figures(trained) if resume else None
            if document is None and not trained.info.untested:  # not measured yet
                with can_go_on(trained.path):
                    document = evaluate(trained, progress=voice)
        if document is None:
            unmeasured = {"run": str(trained.path), "model": None, "evaluated": trained.info.evaluated}
            show(unmeasured, json, lambda: f"\n{reports.untested(trained)}\n\n{reports.what_next(trained)}")
        else:
            table = reports.evaluation(document, trained.path.name)
            show(document, json, lambda: f"\n{table}\n\n{reports.what_next(trained)}")
        keep(trained)


@with_settings(prepare=PrepareConfig, config=TrainConfig, renamed={"seed": "split_seed"}, recipes=False)
def tune(
    source: SourcesOrDataset = None,
    *,
    trials: Annotated[
        int | None, typer.Option(metavar="N", help="Trials that the study is to have. Without it and --minutes: 20.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Minutes after which it ends, whatever the trials.")
    ] = None,
    workers: Annotated[int, typer.Option(metavar="N", help="Processes that share the trials.")] = 1,
    study: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Database that keeps the study: postgresql://…, sqlite:///FILE. Without it: in --out."
        ),
    ] = None,
    tuned: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME", help="Settings to tune, such as learning-rate,dim. Without it: all that count."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder of the study, the recipe and the picture.")
    ] = Path("tune"),
    prepare: PrepareConfig | None,
    config: TrainConfig | None,
    json: Json = False,
) -> None:
    """Search better settings, judged on valid.

    Writes a recipe for `train --recipe`, and draws what was reached. The same command goes on with an unfinished study,
    also while another one is at it. Settings that are given are not tuned. Needs pip install 'amzrec[tune]'.
    """
    from amzrec.cli import reports
    from amzrec.commands.tune import tune as verb

    choices: dict[str, Any] = {"trials": trials, "minutes": minutes, "workers": workers, "study": study, "out": out}
    choices["tuned"] = tuple(name for name in (tuned or "").split(",") if name.strip())
    with speaking() as voice:
        document = verb(one_or_several(source), config, prepare=prepare, progress=voice, **choices)
    show(document, json, lambda: reports.tuning(document, source))


def evaluate(
    run: RunArgument = None,
    *,
    dataset: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Dataset folder to test on. Without it: the one of the training."),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(
            metavar="FEATURE", help="Feature of the wanted product that is known when asking, such as category."
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="METRIC", help="Also measure with TensorFlow Recommenders' own metric: factorized-top-k."),
    ] = None,
    later: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE", help="Reviews that came after the run: it is measured on those that it does not have."
        ),
    ] = None,
    track: Track = None,
    json: Json = False,
) -> None:
    """Measure a run on its test reviews.

    Prints the model beside the baselines; writes metrics.json and plots/ into the run folder.
    """
    from amzrec.cli import reports
    from amzrec.commands.evaluate import evaluate as verb

    if track and (context or later):
        raise AmzrecError("--track keeps the figures of the test reviews: leave --context and --later out")
    with tracking(track) as keep:
        with speaking() as voice:
            document = verb(run, dataset, context=context, metric=metric, later=one_or_several(later), progress=voice)
        show(document, json, lambda: reports.evaluation(document))
        keep(run)


@with_settings(prepare=PrepareConfig, config=TrainConfig, renamed={"seed": "split_seed"})
def compare(
    source: SourcesOrDataset = None,
    *,
    root: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the three runs and of the picture.")] = Path(
        "runs"
    ),
    prepare: PrepareConfig | None,
    config: TrainConfig | None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Train rating only, retrieval only and joint; compare.

    Prints the three models beside the baselines and draws the picture.
    """
    from amzrec.cli import reports
    from amzrec.commands.compare import compare as verb

    with speaking() as voice:
        choices: dict[str, Any] = {"overwrite": overwrite, "resume": resume}
        document = verb(one_or_several(source), config, prepare=prepare, root=root, progress=voice, **choices)
    show(document, json, lambda: reports.comparison(document))


@with_settings(
    prepare=PrepareConfig,
    config=TrainConfig,
    left_out=("min_stars", "split", "test", "valid", "seed", "test_source", "catalogue"),
)
def backtest(
    source: SourcesOrDataset = None,
    *,
    every: Annotated[str, typer.Option(metavar="TIME", help="Length of a window: 12h, 7d, 4w.")] = "7d",
    last: Annotated[int, typer.Option(metavar="N", help="How many windows, the last one at the latest review.")] = 8,
    retrain: Annotated[bool, typer.Option("--retrain", help="Also train anew before each window.")] = False,
    warm: Annotated[
        bool, typer.Option("--warm", help="Also go on before each window from the one before, as train --from does.")
    ] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Picture to draw, a PNG file.")] = None,
    prepare: PrepareConfig | None,
    config: TrainConfig | None,
    json: Json = False,
) -> None:
    """Tell what a model would have done, week by week.

    Trains before the last windows of time, then measures on each window what was trained once, what is updated after
    each window, and the baselines.
    """
    from amzrec.cli import reports
    from amzrec.commands.backtest import backtest as verb

    choices: dict[str, Any] = {"every": every, "last": last, "retrain": retrain, "warm": warm, "out": out}
    with speaking() as voice:
        document = verb(one_or_several(source), config, prepare=prepare, progress=voice, **choices)
    show(document, json, lambda: reports.backtest(document))
