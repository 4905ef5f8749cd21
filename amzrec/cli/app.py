"""The command line: one command per verb; a body parses, calls and prints."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from amzrec.cli.flags import with_settings
from amzrec.cli.terminal import Terminal
from amzrec.config import PrepareConfig, TrainConfig
from amzrec.errors import AmzrecError

app = typer.Typer(
    name="amzrec",
    help="A multitask recommender from a file of reviews: prepare, train, ask.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Source = Annotated[
    str | None, typer.Argument(help="reviews: a file, a folder, tfds:movielens/100k; default: the embedded sample")
]
SourceOrDataset = Annotated[
    str | None, typer.Argument(help="reviews, or a folder that `amzrec prepare` made; default: the embedded sample")
]
RunArgument = Annotated[Path | None, typer.Argument(help="run folder; default: the latest finished one under runs/")]
RunOption = Annotated[
    Path | None, typer.Option("--run", help="run folder; default: the latest finished one under runs/")
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document instead of a table")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace what stands there already")]
Count = Annotated[int, typer.Option("-k", help="how many products to list")]


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Register a verb; what goes wrong is one line on standard error: exit code 1, or 130 for an interrupt."""

    @functools.wraps(function)
    def run(*arguments: Any, **values: Any) -> None:
        try:
            function(*arguments, **values)
        except AmzrecError as error:
            fail(str(error))
        except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            where = f" {error.filename}" if error.filename else ""
            fail(f"{error.strerror or error}:{where}. Check that the place exists, may be used, and has space left")
        except KeyboardInterrupt:
            print(file=sys.stderr)
            raise typer.Exit(130) from None

    if "__signature__" not in vars(function):
        run.__annotations__ = function.__annotations__
    app.command()(run)
    return function


def fail(message: str) -> None:
    """Say once what is wrong, and end with exit code 1."""
    print(f"\namzrec: error: {message}" if sys.stderr.isatty() else f"amzrec: error: {message}", file=sys.stderr)
    raise typer.Exit(1)


def show(document: Any, as_json: bool, text: Callable[[], str]) -> None:
    """Print the document, whole and alone, or the table."""
    print(json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) if as_json else text())


def speaking() -> Terminal:
    """The voice of long work, which nothing that TensorFlow has to say interrupts."""
    import logging

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    return Terminal()


def width() -> int:
    """Characters that a line may have."""
    return shutil.get_terminal_size((110, 20)).columns


@command
@with_settings(prepare=PrepareConfig)
def prepare(
    source: Source = None,
    *,
    out: Annotated[Path, typer.Option(help="dataset folder to write")],
    overwrite: Overwrite = False,
    json: Json = False,
    prepare: PrepareConfig | None,
) -> None:
    """Clean, split and encode reviews into a folder."""
    from amzrec.cli import tables
    from amzrec.commands.prepare import prepare as verb

    voice = speaking()
    dataset = verb(source, out, prepare, overwrite=overwrite, progress=voice)
    voice.close()
    show(dataset.info, json, lambda: f"{tables.prepared(dataset.info)}\n\nNext:  amzrec train {out}")


@command
@with_settings(prepare=PrepareConfig)
def describe(
    source: SourceOrDataset = None,
    *,
    out: Annotated[Path | None, typer.Option(help="picture to draw (PNG)")] = None,
    json: Json = False,
    prepare: PrepareConfig | None,
) -> None:
    """What reviews hold, before anything is learned.

    Counts, reviews per customer and product, stars, time, cold test rows, and what the baselines reach.
    """
    from amzrec.cli import tables
    from amzrec.commands.describe import describe as verb

    voice = speaking()
    found = verb(source, prepare, out=out, progress=voice)
    voice.close()
    show(found, json, lambda: tables.description(found))


@command
@with_settings(prepare=PrepareConfig, config=TrainConfig, renamed={"seed": "split_seed"})
def train(
    source: SourceOrDataset = None,
    *,
    run: Annotated[Path | None, typer.Option(help="run folder to write; default: runs/ and the kind of model")] = None,
    overwrite: Overwrite = False,
    resume: Annotated[bool, typer.Option("--resume", help="go on where this run stopped")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="also write logs for TensorBoard")] = False,
    json: Json = False,
    prepare: PrepareConfig | None,
    config: TrainConfig | None,
) -> None:
    """Train, evaluate, and print the model beside baselines.

    Trains on reviews or on a dataset folder, writes a run folder, measures it on the test reviews.
    """
    from amzrec.cli import tables
    from amzrec.commands.evaluate import evaluate
    from amzrec.commands.train import train as verb

    voice = speaking()
    done = verb(
        source,
        run,
        config,
        prepare=prepare,
        overwrite=overwrite,
        resume=resume,
        tensorboard=tensorboard,
        progress=voice,
    )
    found = evaluate(done, progress=voice)
    voice.close()
    vectors = done.vectors
    someone = vectors.customer_ids[1] if len(vectors.customer_ids) > 1 else "CUSTOMER_ID"
    following = (
        f"Next:  amzrec recommend {someone} --run {done.path}\n"
        f"       amzrec evaluate {done.path} --json\n"
        f"       amzrec export {done.path} --out export"
    )
    show(found, json, lambda: f"\n{tables.evaluation(found, done.path.name)}\n\n{following}")


@command
def evaluate(
    run: RunArgument = None,
    *,
    dataset: Annotated[Path | None, typer.Option(help="dataset folder; default: the one of the training")] = None,
    context: Annotated[str | None, typer.Option(help="feature known of the wanted product, such as category")] = None,
    json: Json = False,
) -> None:
    """Measure a run on its test reviews.

    Prints the model beside the baselines, writes metrics.json and plots/ into the run folder.
    """
    from amzrec.cli import tables
    from amzrec.commands.evaluate import evaluate as verb

    voice = speaking()
    found = verb(run, dataset, context=context, progress=voice)
    voice.close()
    show(found, json, lambda: tables.evaluation(found))


@command
@with_settings(prepare=PrepareConfig, config=TrainConfig, renamed={"seed": "split_seed"})
def compare(
    source: SourceOrDataset = None,
    *,
    root: Annotated[Path, typer.Option(help="folder of the three runs and of the picture")] = Path("runs"),
    overwrite: Overwrite = False,
    json: Json = False,
    prepare: PrepareConfig | None,
    config: TrainConfig | None,
) -> None:
    """Train rating only, retrieval only, joint; compare.

    Prints the three models beside the baselines and draws the picture.
    """
    from amzrec.cli import tables
    from amzrec.commands.compare import compare as verb

    voice = speaking()
    found = verb(source, config, prepare=prepare, root=root, overwrite=overwrite, progress=voice)
    voice.close()
    show(found, json, lambda: tables.comparison(found))


@command
def recommend(
    customer_id: Annotated[str | None, typer.Argument(help="whom to recommend to; or use --all")] = None,
    *,
    run: RunOption = None,
    k: Count = 10,
    liked: Annotated[list[str] | None, typer.Option(help="product, id or title, that the customer likes")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="product, id or title, to leave out")] = None,
    only: Annotated[list[str] | None, typer.Option(help="feature that products must have: category=Toys")] = None,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="also list what was reviewed already")] = False,
    sort: Annotated[str, typer.Option(help="order by retrieval, stars or blend (of the 100 best)")] = "retrieval",
    all: Annotated[bool, typer.Option("--all", help="recommend to every known customer, into --out")] = False,
    out: Annotated[Path | None, typer.Option(help="file of --all: .parquet, .csv or .jsonl")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """The best products for a customer."""
    from amzrec.cli import tables
    from amzrec.commands.recommend import recommend as verb

    if all:
        if customer_id is not None or out is None:
            raise AmzrecError("--all needs --out FILE and no CUSTOMER_ID: amzrec recommend --all --out recs.parquet")
        if liked or exclude or json:
            raise AmzrecError("--liked, --exclude and --json are for one customer: leave them out with --all")
        from amzrec.commands.recommend import recommend_all

        voice = speaking()
        recommend_all(
            run,
            out,
            k=k,
            only=tuple(only or ()),
            include_seen=include_seen,
            sort=sort,
            overwrite=overwrite,
            progress=voice,
        )
        voice.close()
        return
    if out is not None:
        raise AmzrecError("--out goes with --all: amzrec recommend --all --out recs.parquet")
    if customer_id is None:
        raise AmzrecError("whom to recommend to? amzrec recommend CUSTOMER_ID, or --all --out FILE")
    found = verb(
        customer_id,
        run,
        k=k,
        liked=tuple(liked or ()),
        exclude=tuple(exclude or ()),
        only=tuple(only or ()),
        include_seen=include_seen,
        sort=sort,
    )
    origin = {
        "liked": f"{customer_id} is not known to this run: answered from --liked",
        "popularity": f"{customer_id} is not known to this run: the most popular products; add --liked PRODUCT",
    }.get(found["answered_from"], f"for {customer_id}")
    show(found, json, lambda: f"{origin}\n\n{tables.products(found['recommendations'], width())}")


@command
def rate(
    customer_id: Annotated[str, typer.Argument(help="who rates")],
    products: Annotated[list[str], typer.Argument(help="products, by id or exact title")],
    *,
    run: RunOption = None,
    json: Json = False,
) -> None:
    """The stars a customer would give, best first."""
    from amzrec.cli import tables
    from amzrec.commands.recommend import rate as verb

    found = verb(customer_id, products, run)
    show(found, json, lambda: tables.products(found["ratings"], width()))


@command
def similar(
    product: Annotated[str, typer.Argument(help="product, by id or exact title")],
    *,
    run: RunOption = None,
    k: Count = 10,
    json: Json = False,
) -> None:
    """The products most like one."""
    from amzrec.cli import tables
    from amzrec.commands.recommend import similar as verb

    found = verb(product, run, k=k)
    show(found, json, lambda: tables.products(found["similar"], width()))


@command
def export(
    run: RunArgument = None,
    *,
    out: Annotated[Path, typer.Option(help="folder to write")] = Path("export"),
    overwrite: Overwrite = False,
) -> None:
    """Write a SavedModel and a ScaNN index.

    Both are loaded in a clean process and compared with the run before the folder appears.
    """
    from amzrec.commands.export import export as verb

    voice = speaking()
    path = verb(run, out, overwrite=overwrite, progress=voice)
    voice.close()
    print(path)


@command
def doctor(json: Json = False) -> None:
    """Check this installation, with remedies."""
    import dataclasses

    from amzrec.cli import tables
    from amzrec.commands.doctor import doctor as verb

    found = verb()
    show([dataclasses.asdict(check) for check in found], json, lambda: tables.checks(found))
    if not all(check.ok for check in found):
        raise typer.Exit(1)


def version(asked: bool) -> None:
    """Print the version and end."""
    if asked:
        from amzrec import __version__

        print(f"amzrec {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """A multitask recommender from a file of reviews: prepare, train, ask."""


def main() -> None:
    """The entry point of `amzrec`."""
    app(prog_name="amzrec")
