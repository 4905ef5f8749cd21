"""`amzrec evaluate`: what a run is worth on the test reviews, beside the baselines, with intervals."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from amzrec.answers.recommender import Recommender
from amzrec.errors import SILENT, AmzrecError, Progress
from amzrec.evaluation import intervals
from amzrec.evaluation.baselines import DatedBaseline, PopularityBaseline, all_baselines
from amzrec.evaluation.judge import Answers, Figures, judge, rating_of
from amzrec.evaluation.systems import RunSystem, System
from amzrec.evaluation.testset import TestSet, in_context, line_up_run, line_up_test
from amzrec.settings import require
from amzrec.store.dataset import Dataset, open_dataset
from amzrec.store.documents import json_value, plain
from amzrec.store.folders import whole_file
from amzrec.store.history import HISTORY
from amzrec.store.ownership import RUN_FOLDER
from amzrec.store.recipe import how_to_measure
from amzrec.store.revision import revised
from amzrec.store.run import METRICS, PLOTS, Run, is_measured, open_run

FACTORIZED = "factorized-top-k"

Document = dict[str, Any]


def evaluate(
    run: Run | Path | str | None = None,
    dataset: Dataset | Path | str | None = None,
    *,
    context: str | None = None,
    metric: str | None = None,
    later: Any = None,
    progress: Progress = SILENT,
) -> Document:
    """Measure a run (default: the latest) on the test part of its dataset; writes metrics.json and plots/ into it.

    `context` names a feature of products, such as category, that is known when a product is asked for: model and
    popularity then rank only the products that share it. That is another task, so its figures go to
    metrics_CONTEXT.json, without pictures. `metric` "factorized-top-k" also measures the model with
    tfrs.metrics.FactorizedTopK, as "factorized_top_k" beside "retrieval". `later` are reviews that came after the run,
    of any source: it is measured on those that it does not have, into metrics_later.json, without pictures; who and
    what is new to the run counts as unknown. Returns the document. Raises AmzrecError for a missing or foreign run or
    dataset, for a feature that no product has, and for another metric.
    """
    require(metric in (None, FACTORIZED), "metric", metric, FACTORIZED)
    if metric and context:
        raise AmzrecError(f"--metric {FACTORIZED} ranks among all products: leave --context out")
    run = open_run(run)
    if later is None and context is None and (run.folder / HISTORY).is_file():
        run.check(HISTORY)  # now, and not when all is measured and it is to be drawn
    if later is not None:
        if dataset is not None or context is not None:
            raise AmzrecError(
                f"--later names the reviews to test on: leave --{'context' if context else 'dataset'} out"
            )
        from amzrec.renewal.later import reviews_after

        dataset, vectors = reviews_after(run, later, progress)
        testset = line_up_test(dataset, ("train",), np.asarray(vectors.candidates))
    else:
        dataset, vectors = dataset_of(run, dataset), run.vectors
        testset = line_up_run(run, dataset)
    if context:
        testset = in_context(testset, dataset, context)
    progress.say(
        f"{len(testset):,} test reviews of {len(testset.customers):,} customers "
        f"against {len(testset.candidates):,} products"
    )
    model = judge(testset, RunSystem(Recommender(vectors)))
    baselines = all_baselines(dataset, testset)
    rivals = {system.name: judge(testset, system) for system in baselines}
    rng = np.random.default_rng(dataset.protocol.seed)
    document: Document = {
        "protocol": protocol(run, dataset, testset) | half_lives(baselines),
        "model": model.to_json(),
        "baselines": {name: figures.to_json() for name, figures in rivals.items()},
        "differences": intervals.gaps(testset, model, rivals, rng),
        "untrained": run.info.untrained,
    }
    if vectors.context is not None or vectors.head.moment is not None:
        document["as_of_now"] = judge(testset, RunSystem(Recommender(vectors), now=True)).to_json()
    if vectors.head.moment is not None:
        alone = Answers(RunSystem(Recommender(vectors), moment=False).stars(testset))
        document["without_moment"] = rating_of(testset, alone, np.ones(len(testset), np.bool_))
    if metric:
        from amzrec.model.factorized import factorized_top_k

        progress.say("measuring with tfrs.metrics.FactorizedTopK")
        document["model"]["factorized_top_k"] = factorized_top_k(vectors, testset.reviews)
    named = "later" if later is not None else context
    with revised(run.folder, RUN_FOLDER, "the figures") as new:
        write_json(new / (f"metrics_{named}.json" if named else METRICS), document)
    if not named:
        draw(run, testset, {"model": model, **rivals})
    return document


def kept_figures(run: Run) -> Document | None:
    """Return what `evaluate` wrote into a run; None where it was interrupted, or what it wrote is damaged."""
    if not is_measured(run):
        return None
    try:
        run.check(METRICS)
        document: Document = json_value((run.folder / METRICS).read_text())
    except (ValueError, AmzrecError):
        return None
    return document


def dataset_of(run: Run, dataset: Dataset | Path | str | None) -> Dataset:
    """Open the dataset that a run was trained on, or the given one if it has the same reviews and split."""
    if run.info.updates:
        last = run.info.updates[-1]
        raise AmzrecError(
            f"run {run.path} holds the reviews of {last['source']} beside those of its dataset, so it is measured on "
            f"reviews that came later: amzrec evaluate {shlex.quote(str(run.path))} --later LATER"
        )
    if run.info.untested:
        raise AmzrecError(
            f"run {run.path} was trained on all reviews (--test 0), so none are left to measure it on: "
            f"{how_to_measure(run)}"
        )
    if not isinstance(dataset, Dataset):
        named = dataset or run.info.dataset
        if not named:
            raise AmzrecError(f"run {run.path} does not say which dataset it was trained on: add --dataset DATASET")
        if dataset is None and not Path(named).exists():
            raise AmzrecError(f"the dataset folder {named} of run {run.path} is gone: add --dataset DATASET")
        dataset = open_dataset(named)
    same = (
        run.info.fingerprint in (None, dataset.info.fingerprint)
        and run.info.protocol in (None, dataset.protocol)
        and len(run.vectors.product_ids) == dataset.products.num_rows
        and len(run.vectors.customer_ids) == dataset.customers.num_rows
    )
    if not same:
        raise AmzrecError(
            f"dataset {dataset.path} is not the one that run {run.path} was trained on (other reviews or another "
            f"split): its test rows may be train rows of the run. Evaluate with --dataset {run.info.dataset}"
        )
    check_test(dataset)
    return dataset


def check_test(dataset: Dataset) -> None:
    """Raise AmzrecError where a dataset has no test reviews."""
    if not len(dataset.test):
        raise AmzrecError(f"dataset {dataset.path} has no test reviews: prepare it with a larger --test")


def half_lives(baselines: list[System]) -> Document:
    """Tell which half-lives, in days, the baselines chose on valid."""
    days: Document = {}
    for system in baselines:
        if isinstance(system, PopularityBaseline) and system.half_life:
            days["half_life_days"] = system.half_life
        if isinstance(system, DatedBaseline):
            days["dated_half_life_days"] = system.half_life
    return days


def protocol(run: Run, dataset: Dataset, testset: TestSet) -> Document:
    """Tell what the figures were measured on: split and filters, reviews, candidates, and what cannot be found."""
    return plain(dataset.protocol) | {
        "source": dataset.info.source,
        "fingerprint": dataset.info.fingerprint,
        "fit_parts": list(run.info.fit_parts),
        "fit_rows": len(testset.fit),
        "test_rows": len(testset),
        "test_customers": len(testset.customers),
        "candidates": len(testset.candidates),
        "unknown_product_rows": int((testset.wanted < 0).sum()),
        "unknown_customer_rows": int(testset.slices["unknown_customer"].sum()),
        "query_context": query_context(run, testset),
        "unrated_rows": int(np.isnan(testset.reviews.stars).sum()),
    }


def query_context(run: Run, testset: TestSet) -> list[str]:
    """Tell what is known when a test review is asked for, beside its customer's reviews before it.

    The date; what the customer gave before it, or on both sides of it; and the context of `evaluate`.
    """
    moment = run.vectors.head.moment
    known = ["date"] if run.vectors.context_edges is not None else []
    if moment is not None:
        known.append("earlier stars" if moment.past_only else "stars before and after")
    return known + ([testset.context.name] if testset.context else [])


def write_json(path: Path, document: Document) -> None:
    """Write a JSON document whole or not at all; NaN raises ValueError."""
    with whole_file(path, "the figures") as partial:
        partial.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def draw(run: Run, testset: TestSet, judged: dict[str, Figures]) -> None:
    """Draw the pictures of a run into its plots/ folder."""
    from amzrec.evaluation import pictures

    with revised(run.folder, RUN_FOLDER, "the pictures", "the figures were written") as new:
        folder = new / PLOTS
        folder.mkdir()
        pictures.draw_history(run.folder, folder)
        counts = np.bincount(testset.fit.product, minlength=len(testset.column))[testset.candidates]
        ranked = {name: figures.answers.ranked for name, figures in judged.items()}
        tops = {name: ranks.top for name, ranks in ranked.items() if ranks is not None}
        pictures.draw_coverage(counts, testset.wanted, tops, folder)
