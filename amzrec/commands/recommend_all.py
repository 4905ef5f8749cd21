"""`amzrec recommend --all`: the best products for every customer, streamed into a file, or into many on a cluster."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

from amzrec.answers import cluster
from amzrec.answers.everyone import Everyone
from amzrec.answers.files import writer
from amzrec.answers.given import texts_of
from amzrec.answers.lists import Wanted, need_positive
from amzrec.answers.parts import Work, checksum_of
from amzrec.answers.tuning import INDEXES, choose
from amzrec.commands.load import Model
from amzrec.errors import SILENT, AmzrecError, Progress
from amzrec.parallel import ahead
from amzrec.settings import require
from amzrec.store.folders import asked_file, cache_folder, private_cache, scratch_folder, whole_folder
from amzrec.store.ownership import RECOMMENDATIONS_FOLDER, check_file, is_recommendations
from amzrec.store.run import Run

FORMATS = (".parquet", ".csv", ".jsonl")
ENGINES = ("threads", "spark")
RECALL = 0.98  # of the best products that an index finds which is not exact


def recommend_all(
    run: Model | Run | Path | str | None,
    out: Path | str,
    *,
    k: int = 10,
    only: Sequence[str] = (),
    never: Sequence[str] = (),
    include_seen: bool = False,
    sort: str = "retrieval",
    diversify: float = 0.0,
    at_most: Sequence[str] = (),
    index: str = "exact",
    engine: str = "threads",
    spark_master: str | None = None,
    vectors: str = "shared",
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Find the k best products for every customer of the dataset, streamed to `out` (.parquet, .csv or .jsonl).

    One line per recommendation: customer_id, rank, product_id, title, score, stars. The file is whole or absent. The
    keywords are the flags of `amzrec recommend --all`; `index` "auto" or "scann" finds 98 of the 100 best products on
    average in catalogues of 100,000 products and more, see `choose`. With the `engine` "spark", `out` is a folder of
    Parquet files whose rows, file after file, are those of the one file.
    """
    out = Path(out)
    require(engine in ENGINES, "engine", engine, " | ".join(ENGINES))
    require(vectors in cluster.PLACES, "vectors", vectors, " | ".join(cluster.PLACES))
    require(index in INDEXES, "index", index, " | ".join(INDEXES))
    need_positive(k)
    wanted = Wanted(
        k=k,
        only=texts_of(only, "only"),
        never=texts_of(never, "never"),
        include_seen=include_seen,
        sort=sort,
        diversify=diversify,
        at_most=texts_of(at_most, "at_most"),
    )
    opened = run if isinstance(run, Model) else Model(run)
    if engine == "spark":
        if out.suffix != ".parquet" or index != "exact":
            raise AmzrecError(
                "--engine spark compares all products and writes a folder of Parquet files: let --out end in .parquet, "
                "and leave --index out"
            )
        return on_spark(opened, out, wanted, spark_master, vectors, overwrite, progress)
    if spark_master is not None or vectors != "shared":
        raise AmzrecError("--spark-master and --vectors go with --engine spark: add it, or leave them out")
    if out.suffix not in FORMATS:
        raise AmzrecError(f"--out {out} ends in {out.suffix or 'nothing'}; allowed: {', '.join(FORMATS)}")
    check_file(out, "the recommendations", is_recommendations, overwrite)
    chosen = choose(opened.recommender, opened.run.folder, index, RECALL, cache_folder(), progress.say)
    everyone = Everyone(chosen.recommender, wanted)
    with (
        asked_file(out, "the recommendations") as partial,
        writer(partial, everyone.model) as write,
        contextlib.closing(ahead(everyone.block, everyone.starts)) as blocks,
    ):
        for start, block in zip(everyone.starts, blocks, strict=True):
            write(block)
            progress.step("customers", everyone.end(start) - 1, everyone.total)
    return out


def on_spark(
    opened: Model, out: Path, wanted: Wanted, master: str | None, vectors: str, overwrite: bool, progress: Progress
) -> Path:
    """Do the work on Spark, into the folder `out`; see recommend_all."""
    everyone, run = Everyone(opened.recommender, wanted), opened.run.folder.resolve()
    with (
        whole_folder(out, RECOMMENDATIONS_FOLDER, overwrite, [run]) as partial,
        scratch_folder() as scratch,
        cluster.opened(scratch, master) as spark,
    ):
        spark.send_code(private_cache() / "spark")
        sent = spark.send_vectors(run) if vectors == "sent" else None
        work = Work(run, sent, checksum_of(run), partial.resolve(), wanted)
        parts = cluster.parts_of(everyone.starts, spark.cores)
        rows = spark.write(work, parts, everyone.total, progress)
        facts = {"run": str(opened.run.path), "k": wanted.k, "customers": everyone.total, "rows": rows}
        (partial / RECOMMENDATIONS_FOLDER.marker).write_text(json.dumps(facts | {"files": len(parts)}, indent=1) + "\n")
    return out
