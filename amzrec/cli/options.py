"""The arguments and flags of commands, each as the type of a parameter: what it is called, and what it does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SOURCE]...",
        help="Reviews: a file, a folder, several of them, - for standard input, or tfds:movielens/100k. Without it: "
        "the embedded sample.",
        show_default=False,
    ),
]
SourcesOrDataset = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SOURCE]...",
        help="Reviews, or a folder that `amzrec prepare` made. Without it: the embedded sample.",
        show_default=False,
    ),
]
LATEST = "Run folder. Without it: the one under runs/ that was finished last."
RunArgument = Annotated[Path | None, typer.Argument(metavar="[RUN]", help=LATEST)]
RunOption = Annotated[Path | None, typer.Option("--run", metavar="RUN", help=LATEST)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
Track = Annotated[
    str | None,
    typer.Option(
        metavar="mlflow",
        hidden=True,
        help="Also keep the run in MLflow: mlflow.db here, or what MLFLOW_TRACKING_URI names. See docs/tune.md.",
    ),
]
TrainStrategy = Annotated[
    str,
    typer.Option(
        "--strategy",
        metavar="auto|one|mirrored|multi-worker",
        hidden=True,
        help="Devices that share each step: one; all GPUs of this host (mirrored); those of all workers that TF_CONFIG "
        "lists (multi-worker). auto takes what there is. The model is the same.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there already.")]
Count = Annotated[int, typer.Option("-k", metavar="N", help="How many products to list.", show_default=True)]

# --- recommend

AskedCustomer = Annotated[
    str | None, typer.Argument(metavar="[CUSTOMER_ID]", help="Customer to recommend to; --all is for all of them.")
]
Liked = Annotated[
    list[str] | None,
    typer.Option(metavar="PRODUCT", help="Product that the customer likes, by id or exact title; may be repeated."),
]
Excluded = Annotated[
    list[str] | None,
    typer.Option(metavar="PRODUCT", help="Product to leave out, by id or exact title; may be repeated."),
]
Only = Annotated[
    list[str] | None,
    typer.Option(metavar="FEATURE", help="Feature that products must have: category=Toys; may be repeated."),
]
Never = Annotated[
    list[str] | None,
    typer.Option(metavar="FEATURE", help="Feature that products must not have: category=Toys; may be repeated."),
]
IncludeSeen = Annotated[bool, typer.Option("--include-seen", help="Also list products that the customer has reviewed.")]
Sort = Annotated[
    str,
    typer.Option(
        metavar="retrieval|stars|blend",
        help="Order of the list: how well products fit, or of the 100 that fit best, their stars or both (blend).",
    ),
]
Diversify = Annotated[
    float,
    typer.Option(metavar="SHARE", help="How much a product must be unlike those above it in the list: 0 to 1."),
]
AtMost = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=NUMBER", help="Most products with one value of a feature: category=2; may be repeated."),
]
AllIndex = Annotated[
    str,
    typer.Option(
        "--index",
        metavar="exact|auto|scann",
        help="How --all finds the best: exact compares all products; scann finds 98 % in large catalogues, faster.",
    ),
]
ForAll = Annotated[bool, typer.Option("--all", help="Recommend to every known customer, into --out.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with what is left: training, refit, vectors, or evaluation.")
]
ForAllOut = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="File that --all writes: .parquet, .csv or .jsonl; on Spark a folder: .parquet."),
]
AllEngine = Annotated[
    str,
    typer.Option(
        "--engine", metavar="threads|spark", help="What does the work of --all: the cores of this machine, or Spark."
    ),
]
AllMaster = Annotated[
    str | None,
    typer.Option(
        "--spark-master",
        metavar="TEXT",
        help="Cluster for --engine spark: spark://host:7077, yarn or local[4]; without it, Spark's own settings count.",
    ),
]
AllVectors = Annotated[
    str,
    typer.Option(
        "--vectors",
        metavar="shared|sent",
        help="Where Spark's machines find the run: under the same path as here, or sent to each of them.",
    ),
]
