"""Commands that ask a run, pass it on or look after it; see cli.learning."""

from __future__ import annotations

import dataclasses
import os
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
    RunArgument,
    RunOption,
    Sort,
)
from amzrec.cli.program import tell
from amzrec.cli.speech import one_or_several, show, speaking, width
from amzrec.config import PrepareConfig, ServeConfig
from amzrec.errors import AmzrecError, printable


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

    choices: dict[str, Any] = {"k": k, "include_seen": include_seen, "sort": sort, "diversify": diversify}
    choices |= {"only": tuple(only or ()), "never": tuple(never or ()), "at_most": tuple(at_most or ())}
    if all:
        if customer_id is not None or out is None:
            raise AmzrecError("--all needs --out FILE and no CUSTOMER_ID: amzrec recommend --all --out recs.parquet")
        if liked or exclude or json:
            raise AmzrecError("--liked, --exclude and --json are for one customer: leave them out with --all")
        choices |= {"index": index, "engine": engine, "spark_master": spark_master, "vectors": vectors}
        from amzrec.commands.recommend_all import recommend_all

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


def doctor(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN|DATASET|EXPORT|EVENTS]",
            help="Folder, or SQLite file of events, to check instead.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Check this installation, or all files of a folder.

    Each problem comes with what to type. All that was written of a run, a dataset, an export or events is read again.
    """
    from amzrec.cli import reports
    from amzrec.commands.doctor import doctor as verb

    document = [dataclasses.asdict(check) for check in verb(folder)]
    show(document, json, lambda: reports.checks(document))
    if not all(check["ok"] for check in document):
        raise typer.Exit(1)
