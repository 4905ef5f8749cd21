"""The command line: one function per command, with a parameter per flag, calls the verb and prints its document."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from amzrec.cli.flags import with_settings
from amzrec.cli.options import (
    AllEngine,
    AllIndex,
    AllMaster,
    AllVectors,
    AskedCustomer,
    AtMost,
    Count,
    Diversify,
    Excluded,
    ForAll,
    ForAllOut,
    IncludeSeen,
    Json,
    Liked,
    Never,
    Only,
    Overwrite,
    Resume,
    RunArgument,
    RunOption,
    Sort,
    Sources,
    SourcesOrDataset,
    Track,
    TrainStrategy,
)
from amzrec.cli.program import Command, Program, tell
from amzrec.cli.streams import be_done, let_go, prepare_process, speaks_unicode
from amzrec.cli.terminal import Terminal
from amzrec.config import PrepareConfig, ServeConfig, TrainConfig
from amzrec.errors import AmzrecError, printable
from amzrec.interrupts import Interrupted, listen

app = typer.Typer(
    name="amzrec",
    cls=Program,
    help="A multitask recommender from a file of reviews: prepare, train, ask.",
    invoke_without_command=True,
    context_settings={"max_content_width": 110},
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def show(document: Any, as_json: bool, text: Callable[[], str]) -> None:
    """Print the document, whole and alone, or the table."""
    shown = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=not speaks_unicode()) if as_json else text()
    tell(printable(shown, as_json))


@contextmanager
def speaking() -> Iterator[Terminal]:
    """Open the voice of long work, which nothing that TensorFlow has to say interrupts."""
    import logging

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    voice = Terminal()
    yield voice
    voice.close()


@contextmanager
def can_go_on(run: Path) -> Iterator[None]:
    """Let an interrupt of the evaluation of a run say how to go on with it."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        raise Interrupted("the run is trained, and its evaluation is left", run) from stopped


@contextmanager
def tracking(store: str | None) -> Iterator[Callable[[Any], None]]:
    """Reach a store of trainings before the work begins, and give what keeps a run there; nothing without `store`."""
    if store is None:
        yield lambda run: None
        return
    from amzrec.commands.track import open_tracker, track

    tracker = open_tracker(store)

    def keep(run: Any) -> None:
        with speaking() as voice:
            voice.say(f"tracked at {tracker.where} as {track(run, store, tracker=tracker)}")

    yield keep


def one_or_several(sources: list[str] | None) -> str | list[str] | None:
    """Return the sources that were typed as the verbs take them: one name, a list of names, or None for the sample."""
    return None if not sources else sources[0] if len(sources) == 1 else sources


def width() -> int:
    """Count the characters that a line may have."""
    return shutil.get_terminal_size((110, 20)).columns


@app.command(cls=Command)
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


@app.command(cls=Command)
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


@app.command(cls=Command)
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


@app.command(cls=Command)
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


@app.command(cls=Command)
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


@app.command(cls=Command)
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


@app.command(cls=Command)
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


@app.command(cls=Command)
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


@app.command(cls=Command)
def recommend(
    customer_id: AskedCustomer = None,
    *,
    run: RunOption = None,
    k: Count = 10,
    liked: Liked = None,
    exclude: Excluded = None,
    only: Only = None,
    never: Never = None,
    include_seen: IncludeSeen = False,
    sort: Sort = "retrieval",
    diversify: Diversify = 0.0,
    at_most: AtMost = None,
    all: ForAll = False,
    out: ForAllOut = None,
    index: AllIndex = "exact",
    engine: AllEngine = "threads",
    spark_master: AllMaster = None,
    vectors: AllVectors = "shared",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """List the best products for a customer."""
    from amzrec.cli import reports
    from amzrec.commands.recommend import recommend as verb
    from amzrec.commands.recommend_all import recommend_all

    choices: dict[str, Any] = {"k": k, "include_seen": include_seen, "sort": sort, "diversify": diversify}
    choices |= {"only": tuple(only or ()), "never": tuple(never or ()), "at_most": tuple(at_most or ())}
    if all:
        if customer_id is not None or out is None:
            raise AmzrecError("--all needs --out FILE and no CUSTOMER_ID: amzrec recommend --all --out recs.parquet")
        if liked or exclude or json:
            raise AmzrecError("--liked, --exclude and --json are for one customer: leave them out with --all")
        choices |= {"index": index, "engine": engine, "spark_master": spark_master, "vectors": vectors}
        with speaking() as voice:
            recommend_all(run, out, overwrite=overwrite, progress=voice, **choices)
        return
    if out is not None:
        raise AmzrecError("--out goes with --all: amzrec recommend --all --out recs.parquet")
    if index != "exact":
        raise AmzrecError("--index goes with --all: one customer is answered exactly")
    if engine != "threads" or spark_master is not None or vectors != "shared":
        raise AmzrecError("--engine, --spark-master and --vectors go with --all: one customer needs no cluster")
    if customer_id is None:
        raise AmzrecError("whom to recommend to? amzrec recommend CUSTOMER_ID, or --all --out FILE")
    document = verb(customer_id, run, liked=tuple(liked or ()), exclude=tuple(exclude or ()), **choices)
    show(document, json, lambda: reports.recommendations(document, width()))


@app.command(cls=Command)
def rate(
    customer_id: Annotated[str, typer.Argument(metavar="CUSTOMER_ID", help="Customer who would rate.")],
    products: Annotated[list[str], typer.Argument(metavar="PRODUCT...", help="Products, by id or exact title.")],
    *,
    run: RunOption = None,
    json: Json = False,
) -> None:
    """Predict the stars a customer would give, best first."""
    from amzrec.cli import reports
    from amzrec.commands.rate import rate as verb

    document = verb(customer_id, products, run)
    show(document, json, lambda: reports.products(document["ratings"], width()))


@app.command(cls=Command)
def similar(
    product: Annotated[str, typer.Argument(metavar="PRODUCT", help="Product, by id or exact title.")],
    *,
    run: RunOption = None,
    k: Count = 10,
    json: Json = False,
) -> None:
    """List the products most like one."""
    from amzrec.cli import reports
    from amzrec.commands.similar import similar as verb

    document = verb(product, run, k=k)
    show(document, json, lambda: reports.products(document["similar"], width()))


@app.command(cls=Command)
@with_settings(
    prepare=PrepareConfig,
    recipes=False,
    shown=("titles",),
    left_out=("product_key", "min_reviews", "min_stars", "split", "test", "valid", "seed", "test_source", "catalogue"),
)
def update(
    parent: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder that the reviews are new to.")],
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="REVIEWS...", help="New reviews: a file, any other source, or the events of the service."
        ),
    ],
    *,
    run: Annotated[Path, typer.Option(metavar="FOLDER", help="Run folder to write.")],
    prepare: PrepareConfig | None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Let new reviews into a run, without training.

    Writes another run, in which new customers and products answer and what is popular is counted anew.
    """
    from amzrec.cli import reports
    from amzrec.commands.update import update as verb

    with speaking() as voice:
        made = verb(parent, one_or_several(source), run, prepare, overwrite=overwrite, progress=voice)
    document = {"run": str(made.path), "update": made.info.updates[-1]}
    show(document, json, lambda: reports.updated(document))


@app.command(cls=Command)
def export(
    run: RunArgument = None,
    *,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to write.")] = Path("export"),
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Also write the rating head and the query of a customer as ONNX.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a SavedModel and a ScaNN index.

    Both are loaded in a clean process and compared with the run before the folder appears.
    """
    from amzrec.commands.export import export as verb

    with speaking() as voice:
        path = verb(run, out, onnx=onnx, overwrite=overwrite, progress=voice)
    tell(printable(str(path)))


@app.command(cls=Command)
def report(
    run: RunArgument = None,
    *,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Page to write, an HTML file.")] = Path("report.html"),
    overwrite: Overwrite = False,
) -> None:
    """Write a run as one page to send to somebody.

    Model beside baselines, training curves, slices, and what is recommended beside what is bought.
    """
    from amzrec.commands.report import report as verb

    tell(printable(str(verb(run, out, overwrite=overwrite))))


@app.command(cls=Command)
def card(
    run: RunArgument = None,
    *,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Model card to write, .md or .html; the other one stands beside it.")
    ] = Path("model-card.md"),
    overwrite: Overwrite = False,
) -> None:
    """Write the model card of a run.

    In Markdown and HTML: data, protocol, figures with intervals and baselines, slices, limits, how to reproduce it.
    """
    from amzrec.commands.card import card as verb

    tell(printable("\n".join(map(str, verb(run, out, overwrite=overwrite)))))


@app.command(cls=Command)
@with_settings(config=ServeConfig, recipes=False)
def serve(run: RunArgument = None, *, config: ServeConfig | None) -> None:
    """Answer over HTTP, with live events.

    Needs pip install 'amzrec[serve]'. SIGHUP opens the run again without a lost request; see docs/serve.md.
    """
    from amzrec.commands.serve import serve as verb

    config = config or ServeConfig()
    if config.token is None and os.environ.get("AMZREC_TOKEN"):
        config = config.replace(token=os.environ["AMZREC_TOKEN"])
    with speaking() as voice:
        verb(run, config, progress=voice)


@app.command(cls=Command)
def launch(
    words: Annotated[
        list[str], typer.Argument(metavar="-- train …", help="The training to run, as it is typed after amzrec.")
    ],
    *,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", help="Processes that share each step of the training.")
    ] = 2,
    restarts: Annotated[
        int, typer.Option("--restarts", metavar="N", help="How often all are started again where one is killed.")
    ] = 3,
) -> None:
    """Train with several workers on this machine.

    Each gets a TF_CONFIG of its own. For several machines see docs/distributed.md.
    """
    from amzrec.commands.launch import launch as verb

    with speaking() as voice:
        code = verb(words, workers, restarts=restarts, progress=voice)
    raise typer.Exit(code)


@app.command(cls=Command)
def doctor(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[RUN|DATASET|EXPORT]", help="Folder to check instead.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Check this installation, or all files of a folder.

    Each problem comes with what to type. Of a run, a dataset or an export all that was written is read again.
    """
    from amzrec.cli import reports
    from amzrec.commands.doctor import doctor as verb

    document = [dataclasses.asdict(check) for check in verb(folder)]
    show(document, json, lambda: reports.checks(document))
    if not all(check["ok"] for check in document):
        raise typer.Exit(1)


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """A multitask recommender from a file of reviews: prepare, train, ask."""
    if version:
        from amzrec import __version__

        tell(f"amzrec {__version__}")
    elif context.invoked_subcommand is None:
        tell(context.get_help())
    else:
        return
    raise typer.Exit


def main() -> None:
    """Run `amzrec` with the words that were typed."""
    prepare_process()
    listen()
    try:
        app(prog_name="amzrec")
    finally:
        be_done()
        let_go(sys.stderr)
