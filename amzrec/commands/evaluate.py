"""`amzrec evaluate`: what a run is worth on the test rows, beside the baselines, with intervals."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from amzrec.answers.ranks import Ranks, inner_products, rank_scores
from amzrec.answers.recommender import Recommender
from amzrec.arrays import Lists
from amzrec.errors import SILENT, AmzrecError, Progress
from amzrec.evaluation import baselines, metrics
from amzrec.evaluation.testset import Question, ask, in_context
from amzrec.features.popularity import period_of
from amzrec.store.dataset import Dataset, open_dataset
from amzrec.store.documents import plain
from amzrec.store.folders import whole_file, writing
from amzrec.store.run import METRICS, PLOTS, Run, open_run

JUDGED = 3000  # most valid reviews that a half-life is chosen on

Array = npt.NDArray[Any]
Figures = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Answers:
    """What one system answered: raw stars of each test row, ranks of the test products; None where it has none."""

    stars: npt.NDArray[np.float64] | None = None  # [T] not clipped
    ranks: Ranks | None = None


def evaluate(
    run: Run | Path | str | None = None,
    dataset: Dataset | Path | str | None = None,
    *,
    context: str | None = None,
    progress: Progress = SILENT,
) -> Figures:
    """Measure a run (default: the latest) on the test part of its dataset; writes metrics.json and plots/ into it.

    `context` names a feature of products, such as category, that is known when a product is asked for: model and
    popularity then rank only the products that share it. That is another task, so its figures go to
    metrics_CONTEXT.json, without pictures. Returns the document. Raises AmzrecError for a missing or foreign run or
    dataset, and for a feature that no product has.
    """
    run = open_run(run)
    dataset = dataset_of(run, dataset)
    recommender = Recommender(run.vectors)
    question = ask(run, dataset)
    if context:
        question = in_context(question, dataset, context)
    progress.say(
        f"{len(question.test):,} test reviews of {len(question.customers):,} customers "
        f"against {len(question.candidates):,} products"
    )
    model = answer(recommender, question)
    rivals, facts = baseline_answers(dataset, question)
    rng = np.random.default_rng(dataset.protocol.seed)
    counts = baselines.popularity(question.fit.product, dataset.products.num_rows)[question.candidates]
    document = {
        "protocol": protocol(run, dataset, question) | facts,
        "model": figures(question, model, counts),
        "baselines": {name: figures(question, rival, counts) for name, rival in rivals.items()},
        "differences": compared(question, model, rivals, rng),
        "untrained": run.info.untrained,
    }
    write_json(run.path / (f"metrics_{context}.json" if context else METRICS), document)
    if not context:
        draw(run, question, {"model": model, **rivals})
    return document


def dataset_of(run: Run, dataset: Dataset | Path | str | None) -> Dataset:
    """The dataset that a run was trained on, or the given one if it has the same reviews and split."""
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
    if not len(dataset.test):
        raise AmzrecError(f"dataset {dataset.path} has no test reviews: prepare it with a larger --test")
    return dataset


def answer(recommender: Recommender, question: Question) -> Answers:
    """What the model answers as of the date of each test row: its stars, its rank in the whole catalogue."""
    vectors, test = recommender.vectors, question.test
    context, trend, edges = vectors.context, vectors.rating_context, vectors.context_edges
    period = np.zeros(len(test), np.int32) if edges is None else period_of(edges, test.timestamp)
    asked = question.asked(period if context is not None else None)
    queries = vectors.retrieval_query[question.customers[asked.owner]]  # [Q, Dr + 1]
    # customers without a history share one query, which is ranked once for each period
    key = np.concatenate([queries.view(np.int32), asked.when[:, None].astype(np.int32)], axis=1)
    _, unique, query_of = np.unique(
        key.view(np.dtype((np.void, key.shape[1] * key.itemsize)))[:, 0], return_index=True, return_inverse=True
    )
    prior = None if context is None else context[:, question.candidates]  # [P, M]
    when, value = question.told(asked.when[unique])
    scores = inner_products(queries[unique], recommender.candidate_vectors, prior, when)
    ranks = asked.ranks(question.within(scores, value), len(unique), len(question.candidates), query_of)
    stars = None
    if question.scale:
        rating = vectors.rating_query[test.customer]
        if trend is not None:
            rating[:, -1] += trend[period]
        stars = recommender.rate(rating, test.product, clip=False).astype(np.float64)
    return Answers(stars, ranks)


def baseline_answers(dataset: Dataset, question: Question) -> tuple[dict[str, Answers], dict[str, Any]]:
    """The baselines on the same fitted rows, and what was chosen for them."""
    fit, test, products = question.fit, question.test, dataset.products.num_rows
    found, facts = dict[str, Answers](), dict[str, Any]()
    if question.scale:
        biases = baselines.fit_biases(fit.customer, fit.product, fit.stars, dataset.customers.num_rows, products)
        mean = np.full(len(test), biases.mean)
        found["global_mean"] = Answers(mean)
        found["product_bias"] = Answers(mean + biases.product[test.product])
        found["customer_product_bias"] = Answers(mean + biases.product[test.product] + biases.customer[test.customer])
    found["popularity"] = by_score(question, baselines.popularity(fit.product, products))
    if dataset.has_time and len(fit):
        facts = {"half_life_days": choose_half_life(dataset), "dated_half_life_days": choose_half_life(dataset, True)}
        recent = baselines.recent_popularity(fit.product, fit.timestamp, facts["half_life_days"], products)
        found["recent_popularity"] = by_score(question, recent)
        found["dated_popularity"] = by_date(question, facts["dated_half_life_days"])
    return found, facts


def by_score(question: Question, score: Array) -> Answers:
    """Ranks where every customer is answered with the same score [N + 1] of each product: a model of width 1."""
    asked = question.asked()
    codes, query_of = np.unique(asked.when, return_inverse=True)
    scores = inner_products(np.ones((len(codes), 1), np.float32), score[question.candidates, None].astype(np.float32))
    scores = question.within(scores, question.told(codes)[1])
    return Answers(ranks=asked.ranks(scores, len(codes), len(question.candidates), query_of))


def by_date(question: Question, half_life: float) -> Answers:
    """Ranks where every customer is answered with what was popular before the day of the test row."""
    fit, place, width = question.fit, question.place[question.fit.product], len(question.candidates)
    asked = question.asked(baselines.asked_days(fit.timestamp, question.test.timestamp))
    codes, query_of = np.unique(asked.when, return_inverse=True)
    days, value = question.told(codes)
    scores = baselines.dated_popularity(place[place >= 0], fit.timestamp[place >= 0], half_life, width, days)
    return Answers(ranks=asked.ranks(question.within(scores, value), len(days), width, query_of))


def choose_half_life(dataset: Dataset, dated: bool = False) -> int:
    """Days of half-life with the best mean top_k on valid when fitted on train; ties go to the longer one.

    `dated`: of the popularity before the day of each valid row, instead of as of the end of train.
    """
    train, valid = dataset.train, dataset.valid
    if not len(valid):
        return baselines.HALF_LIFE
    valid = valid.take(np.linspace(0, len(valid) - 1, min(len(valid), JUDGED)).astype(np.int64))
    products, column = np.unique(train.product, return_inverse=True)
    place = np.full(dataset.products.num_rows, -1, np.int64)
    place[products] = np.arange(len(products))
    when = baselines.asked_days(train.timestamp, valid.timestamp) if dated else np.zeros(len(valid), np.int64)
    days, owner = np.unique(when, return_inverse=True)
    positives, one, found = Lists.of(owner, place[valid.product], len(days)), np.ones((1, 1), np.float32), {}
    nothing = Lists(np.zeros(len(days) + 1, np.int64), np.zeros(0, np.int64))
    for half_life in baselines.HALF_LIVES:
        if dated:
            scores = baselines.dated_popularity(column, train.timestamp, half_life, len(products), days)
        else:
            recent = baselines.recent_popularity(column, train.timestamp, half_life, len(products))
            scores = inner_products(one, recent[:, None].astype(np.float32))
        ranks = rank_scores(scores, len(days), len(products), np.arange(len(days)), positives, nothing, 0)
        found[half_life] = sum(metrics.top_k(ranks.above).values())
    return max(found, key=lambda half_life: (found[half_life], half_life))


def figures(question: Question, answers: Answers, counts: Array) -> Figures:
    """The metrics of one system with its slices; keys that do not apply are left out, an empty slice is None."""
    everything = np.ones(len(question.test), np.bool_)
    whole = rows_figures(question, answers, everything)
    if answers.stars is not None and question.scale and len(question.lists):
        ndcg = metrics.list_ndcg(question.test.stars[question.lists], answers.stars[question.lists], *question.scale)
        if not np.isnan(ndcg).all():
            whole["rating"][f"ndcg@{metrics.LIST}"] = float(np.nanmean(ndcg))
    if answers.ranks is not None and "ranking" in whole:
        asked = answers.ranks.top[np.unique(question.owner[question.relevant])]
        if len(question.candidates):
            whole["ranking"][f"coverage@{metrics.CUT}"] = metrics.coverage(asked, len(question.candidates))
        if (asked >= 0).any():
            whole["ranking"][f"novelty@{metrics.CUT}"] = metrics.novelty(asked, counts)
    whole["slices"] = {
        name: rows_figures(question, answers, mask) | {"rows": int(mask.sum())} if mask.any() else None
        for name, mask in question.slices.items()
    }
    return whole


def rows_figures(question: Question, answers: Answers, mask: npt.NDArray[np.bool_]) -> Figures:
    """Rating, retrieval and ranking figures over the test rows under `mask`."""
    found: Figures = {}
    rated = mask & ~np.isnan(question.test.stars)
    if answers.stars is not None and question.scale and rated.any():
        found["rating"] = metrics.rating_errors(
            question.test.stars[rated], np.clip(answers.stars[rated], *question.scale)
        )
    if answers.ranks is not None:
        found["retrieval"] = metrics.top_k(answers.ranks.above[mask])
        counted = mask & question.relevant
        if counted.any():
            customers, owner = np.unique(question.owner[counted], return_inverse=True)
            each = metrics.per_customer(answers.ranks.above_unseen[counted], owner, len(customers))
            found["ranking"] = {name: float(values.mean()) for name, values in each.items()}
            found["ranking"]["customers"] = len(customers)
    return found


def compared(question: Question, model: Answers, rivals: dict[str, Answers], rng: np.random.Generator) -> Figures:
    """Model - baseline for each metric that both have, with paired 95 % intervals: {baseline: {group: {metric: …}}}."""
    names, pairs = list[tuple[str, str, str]](), list[metrics.Pair]()
    rated = ~np.isnan(question.test.stars)
    customers, owner = np.unique(question.owner[question.relevant], return_inverse=True)

    def add(rival: str, group: str, metric: str, pair: metrics.Pair) -> None:
        names.append((rival, group, metric))
        pairs.append(pair)

    def errors(stars: Array) -> Array:
        low, high = question.scale or (-np.inf, np.inf)
        return np.abs(np.clip(stars[rated], low, high) - question.test.stars[rated])

    for name, rival in rivals.items():
        if model.stars is not None and rival.stars is not None and rated.any():
            mine, other, whose = errors(model.stars), errors(rival.stars), question.owner[rated]
            add(name, "rating", "rmse", metrics.Pair(mine**2, other**2, whose, np.sqrt))
            add(name, "rating", "mae", metrics.Pair(mine, other, whose))
        if model.ranks is not None and rival.ranks is not None:
            for k in metrics.TOP:
                hits = [(ranks.above < k).astype(np.float64) for ranks in (model.ranks, rival.ranks)]
                add(name, "retrieval", f"top_{k}", metrics.Pair(hits[0], hits[1], question.owner))
            if len(customers):
                sides = [
                    metrics.per_customer(ranks.above_unseen[question.relevant], owner, len(customers))
                    for ranks in (model.ranks, rival.ranks)
                ]
                for metric in sides[0]:
                    add(name, "ranking", metric, metrics.Pair(sides[0][metric], sides[1][metric], customers))
    found: Figures = {}
    for (name, group, metric), gap in zip(names, metrics.differences(pairs, len(question.customers), rng), strict=True):
        found.setdefault(name, {}).setdefault(group, {})[metric] = gap
    return found


def protocol(run: Run, dataset: Dataset, question: Question) -> Figures:
    """What the figures were measured on: split and filters, rows fitted and tested, candidates, misses by design."""
    return plain(dataset.protocol) | {
        "source": dataset.info.source,
        "fingerprint": dataset.info.fingerprint,
        "fit_parts": list(run.info.fit_parts),
        "fit_rows": len(question.fit),
        "test_rows": len(question.test),
        "test_customers": len(question.customers),
        "candidates": len(question.candidates),
        "unknown_product_rows": int((question.positives.items < 0).sum()),
        "unknown_customer_rows": int(question.slices["unknown_customer"].sum()),
        "query_context": (["date"] if run.vectors.context_edges is not None else [])
        + ([question.context.name] if question.context else []),
        "unrated_rows": int(np.isnan(question.test.stars).sum()),
    }


def write_json(path: Path, document: Figures) -> None:
    """Write a JSON document whole or not at all; NaN is refused."""
    with whole_file(path, "the figures") as partial:
        partial.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def draw(run: Run, question: Question, answers: dict[str, Answers]) -> None:
    """The pictures of a run, into its plots/ folder."""
    from amzrec.evaluation import pictures

    folder = run.path / PLOTS
    with writing("the pictures", folder, "the figures were written"):
        folder.mkdir(exist_ok=True)
        pictures.draw_history(run.path, folder)
        counts = baselines.popularity(question.fit.product, int(question.candidates.max(initial=0)) + 1)
        tops = {name: found.ranks.top for name, found in answers.items() if found.ranks is not None}
        pictures.draw_coverage(counts[question.candidates], question.positives.items, tops, folder)
