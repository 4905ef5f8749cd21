"""`amzrec evaluate`: what a run is worth on the test rows, beside the baselines, with intervals."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from amzrec import baselines, metrics
from amzrec.dataset import Dataset, Reviews, open_dataset
from amzrec.errors import SILENT, AmzrecError, Progress
from amzrec.prior import period_of
from amzrec.ranks import Lists, Ranks, rank
from amzrec.recommender import Recommender
from amzrec.run import METRICS, PLOTS, Run, open_run

Array = npt.NDArray[Any]
Figures = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Question:
    """What every system is asked: the test rows by customer, the candidates, and what each customer has seen."""

    test: Reviews  # [T], customers ascending, the reviews of each by time
    fit: Reviews  # what the model and the baselines were fitted on
    owner: npt.NDArray[np.int64]  # [T] position of the customer among `customers`
    customers: Array  # [G] customer rows that are tested, ascending
    candidates: Array  # [M] product rows, ascending
    positives: Lists  # the product of each test row as position among the candidates, -1 for none
    seen: Lists  # positions in train and valid of each of the G customers
    relevant: npt.NDArray[np.bool_]  # [T] rows that count for the ranking metrics
    slices: dict[str, npt.NDArray[np.bool_]]  # [T] each
    scale: tuple[float, float] | None  # lowest and highest stars, None where there are none
    lists: npt.NDArray[np.int64]  # [L, 5] positions of test rows, for ndcg@5


@dataclasses.dataclass(frozen=True)
class Answers:
    """What one system answered: raw stars of each test row, ranks of the test products; None where it has none."""

    stars: npt.NDArray[np.float64] | None = None  # [T] not clipped
    ranks: Ranks | None = None


def evaluate(
    run: Run | Path | str | None = None,
    dataset: Dataset | Path | str | None = None,
    *,
    progress: Progress = SILENT,
) -> Figures:
    """Measure a run (default: the latest) on the test part of its dataset; writes metrics.json and plots/ into it.

    Returns the document of metrics.json. Raises AmzrecError for a missing or foreign run or dataset.
    """
    run = open_run(run)
    dataset = dataset_of(run, dataset)
    recommender = Recommender(run.vectors)
    question = ask(run, dataset)
    progress.say(
        f"{len(question.test):,} test reviews of {len(question.customers):,} customers "
        f"against {len(question.candidates):,} products"
    )
    model = answer(recommender, question)
    rivals, facts = baseline_answers(dataset, question)
    rng = np.random.default_rng(dataset.protocol["seed"])
    counts = baselines.popularity(question.fit.product, dataset.products.num_rows)[question.candidates]
    document = {
        "protocol": protocol(run, dataset, question) | facts,
        "model": figures(question, model, counts),
        "baselines": {name: figures(question, rival, counts) for name, rival in rivals.items()},
        "differences": compared(question, model, rivals, rng),
    }
    write_json(run.path / METRICS, document)
    draw(run, question, {"model": model, **rivals})
    return document


def dataset_of(run: Run, dataset: Dataset | Path | str | None) -> Dataset:
    """The dataset that a run was trained on, or the given one if it has the same reviews and split."""
    if not isinstance(dataset, Dataset):
        named = dataset or run.info.get("dataset")
        if not named:
            raise AmzrecError(f"run {run.path} does not say which dataset it was trained on: add --dataset DATASET")
        if dataset is None and not Path(named).exists():
            raise AmzrecError(f"the dataset folder {named} of run {run.path} is gone: add --dataset DATASET")
        dataset = open_dataset(named)
    same = (
        run.info.get("fingerprint") in (None, dataset.info.get("fingerprint"))
        and run.info.get("protocol") in (None, dataset.protocol)
        and len(run.vectors.product_ids) == dataset.products.num_rows
        and len(run.vectors.customer_ids) == dataset.customers.num_rows
    )
    if not same:
        raise AmzrecError(
            f"dataset {dataset.path} is not the one that run {run.path} was trained on (other reviews or another "
            f"split): its test rows may be train rows of the run. Evaluate with --dataset {run.info.get('dataset')}"
        )
    if not len(dataset.test):
        raise AmzrecError(f"dataset {dataset.path} has no test reviews: prepare it with a larger --test")
    return dataset


def ask(run: Run, dataset: Dataset) -> Question:
    """Line up the test rows of a dataset with the candidates and the fitted rows of a run."""
    vectors = run.vectors
    test = dataset.test.take(np.lexsort((dataset.test.timestamp, dataset.test.customer)))
    fit = Reviews.concat([getattr(dataset, part) for part in run.info.get("fit_parts", ["train", "valid"])])
    customers, owner = np.unique(test.customer, return_inverse=True)
    candidates = np.asarray(vectors["candidates"])
    place = np.full(dataset.products.num_rows, -1, np.int64)
    place[candidates] = np.arange(len(candidates))
    history = Reviews.concat([dataset.train, dataset.valid])
    of_customer = np.full(dataset.customers.num_rows, -1, np.int64)
    of_customer[customers] = np.arange(len(customers))
    kept = (of_customer[history.customer] >= 0) & (place[history.product] >= 0)
    seen = Lists.of(of_customer[history.customer[kept]], place[history.product[kept]], len(customers))
    scale = dataset.info.get("stars")
    rng = np.random.default_rng(dataset.protocol["seed"])
    rated = np.flatnonzero(~np.isnan(test.stars))
    known = np.bincount(fit.customer, minlength=dataset.customers.num_rows)[test.customer] > 0
    head = head_products(dataset)[test.product]
    slices = {
        "known_customer": known,
        "unknown_customer": ~known,
        "head_product": head,
        "tail_product": ~head,
    }
    if scale:
        slices["top_rated"] = test.stars == scale["max"]
    return Question(
        test=test,
        fit=fit,
        owner=owner,
        customers=customers,
        candidates=candidates,
        positives=Lists.of(owner, place[test.product], len(customers)),
        seen=seen,
        relevant=np.isnan(test.stars) | (test.stars >= dataset.protocol["min_stars"]),
        slices=slices,
        scale=(float(scale["min"]), float(scale["max"])) if scale else None,
        lists=rated[metrics.draw_lists(test.customer[rated], rng)],
    )


def head_products(dataset: Dataset) -> npt.NDArray[np.bool_]:
    """[N + 1] the most reviewed products that together make up half of the train rows."""
    counts = baselines.popularity(dataset.train.product, dataset.products.num_rows)
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    head = np.zeros(len(counts), np.bool_)
    head[order] = (2 * before < counts.sum()) & (counts[order] > 0)
    return head


def query_vectors(recommender: Recommender, test: Reviews) -> tuple[Array, Array]:
    """Retrieval and rating queries [T, ...] of test rows: the one place that says what is known when a row is asked."""
    rating = recommender.vectors["rating_query"][test.customer]
    trend = recommender.vectors.arrays.get("rating_context")
    if trend is not None:
        rating[:, -1] += trend[period_of(recommender.vectors["context_edges"], test.timestamp)]
    return recommender.vectors["retrieval_query"][test.customer], rating


def answer(recommender: Recommender, question: Question) -> Answers:
    """What the model answers: stars of every test row, ranks over the whole catalogue."""
    retrieval, rating = query_vectors(recommender, question.test)
    first = np.searchsorted(question.owner, np.arange(len(question.customers)))
    per_customer = np.ascontiguousarray(retrieval[first])  # [G, Dr + 1]
    # customers without a history share one query, which is ranked once
    bits = per_customer.view(np.dtype((np.void, per_customer.shape[1] * per_customer.itemsize)))[:, 0]
    _, unique, query_of = np.unique(bits, return_index=True, return_inverse=True)
    queries, candidates = per_customer[unique], recommender.candidate_vectors
    context = recommender.vectors.arrays.get("context")
    if context is None:
        ranks = rank(queries, candidates, query_of, question.positives, question.seen)
    else:
        period = period_of(recommender.vectors["context_edges"], question.test.timestamp)
        ranks = dated_ranks(question, queries, candidates, query_of, context[:, question.candidates], period)
    stars = None
    if question.scale:
        stars = recommender.rate(rating, question.test.product, clip=False).astype(np.float64)
    return Answers(stars, ranks)


def dated_ranks(
    question: Question, queries: Array, candidates: Array, query_of: Array, prior: Array, period: Array
) -> Ranks:
    """Ranks where scores depend on when it is asked: prior [P, M] is added by the period [T] of each test row.

    Each test product is ranked as of its own date (`above`). The list of a customer is one list, as of the first of
    its test rows (`above_unseen`, `top`): what stands in two lists would not be one ranking.
    """
    first = np.searchsorted(question.owner, np.arange(len(question.customers)))

    def ask(customer: Array, when: Array, positives: Lists, seen: Lists, k: int) -> Ranks:
        (query, asked), place = np.unique(np.stack([query_of[customer], when]), axis=1, return_inverse=True)
        return rank(queries[query], candidates, place, positives, seen, k, prior, asked)

    everyone = np.arange(len(question.customers))
    lists = ask(everyone, period[first], question.positives, question.seen, metrics.CUT)
    starts = np.flatnonzero(np.diff(question.owner, prepend=-1) | np.diff(period, prepend=-1))
    offsets = np.append(starts, len(period))
    nothing = Lists(np.zeros(len(starts) + 1, np.int64), np.zeros(0, np.int64))
    rows = ask(question.owner[starts], period[starts], Lists(offsets, question.positives.items), nothing, 1)
    return Ranks(rows.above, lists.above_unseen, lists.top)


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
    found["popularity"] = Answers(ranks=by_score(question, baselines.popularity(fit.product, products)))
    if dataset.has_time and len(fit):
        facts["half_life_days"] = choose_half_life(dataset)
        recent = baselines.recent_popularity(fit.product, fit.timestamp, facts["half_life_days"], products)
        found["recent_popularity"] = Answers(ranks=by_score(question, recent))
        facts["dated_half_life_days"] = choose_half_life(dataset, dated=True)
        found["dated_popularity"] = Answers(ranks=by_date(question, facts["dated_half_life_days"], products))
    return found, facts


def by_score(question: Question, score: Array) -> Ranks:
    """Ranks where every customer is answered with the same score [N + 1] of each product: a model of width 1."""
    column = score[question.candidates, None].astype(np.float32)
    everyone = np.zeros(len(question.customers), np.int64)
    return rank(np.ones((1, 1), np.float32), column, everyone, question.positives, question.seen)


def by_date(question: Question, half_life: int, products: int) -> Ranks:
    """Ranks by popularity decayed as of each test row's date, from fitted reviews before it."""
    moments, period = baselines.moments(question.test.timestamp)
    scores = baselines.dated_popularity(question.fit.product, question.fit.timestamp, moments, half_life, products)
    prior = np.stack([score[question.candidates] for score in scores]).astype(np.float32)
    nothing = np.zeros((1, 1), np.float32), np.zeros((len(question.candidates), 1), np.float32)
    return dated_ranks(question, *nothing, np.zeros(len(question.customers), np.int64), prior, period)


def choose_half_life(dataset: Dataset, dated: bool = False) -> int:
    """Days of half-life with the best mean top_k on valid when fitted on train; ties go to the longer one.

    `dated`: of the popularity as of each valid row's date, instead of as of the end of train.
    """
    train, valid, products = dataset.train, dataset.valid, dataset.products.num_rows
    if not len(valid):
        return baselines.HALF_LIFE
    moments, period = baselines.moments(valid.timestamp) if dated else (None, np.zeros(len(valid), np.int64))
    found = {}
    for days in baselines.HALF_LIVES:
        if moments is None:
            scores = iter([baselines.recent_popularity(train.product, train.timestamp, days, products)])
        else:
            scores = baselines.dated_popularity(train.product, train.timestamp, moments, days, products)
        above = np.full(len(valid), metrics.MISS)
        for number, score in enumerate(scores):
            mine = np.flatnonzero(period == number)
            score = score.astype(np.float32)
            wanted = score[valid.product[mine]]
            known = np.sort(score[score > 0])
            above[mine] = np.where(wanted > 0, len(known) - 1 - np.searchsorted(known, wanted), metrics.MISS)
        found[days] = sum(metrics.top_k(above).values())
    return max(found, key=lambda days: (found[days], days))


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
    return dataset.protocol | {
        "source": dataset.info.get("source"),
        "fingerprint": dataset.info.get("fingerprint"),
        "fit_parts": list(run.info.get("fit_parts", ["train", "valid"])),
        "fit_rows": len(question.fit),
        "test_rows": len(question.test),
        "test_customers": len(question.customers),
        "candidates": len(question.candidates),
        "unknown_product_rows": int((question.positives.items < 0).sum()),
        "unknown_customer_rows": int(question.slices["unknown_customer"].sum()),
        "query_context": ["date"] if "context_edges" in run.vectors.arrays else [],
        "unrated_rows": int(np.isnan(question.test.stars).sum()),
    }


def write_json(path: Path, document: Figures) -> None:
    """Write a JSON document whole or not at all; NaN is refused."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise AmzrecError(
            f"cannot write {path}: {error.strerror or error}. Free some space, or allow writing"
        ) from error


def draw(run: Run, question: Question, answers: dict[str, Answers]) -> None:
    """The pictures of a run, into its plots/ folder."""
    from amzrec import plots

    folder = run.path / PLOTS
    try:
        folder.mkdir(exist_ok=True)
        plots.draw_history(run.path, folder)
        counts = baselines.popularity(question.fit.product, int(question.candidates.max(initial=0)) + 1)
        tops = {name: found.ranks.top for name, found in answers.items() if found.ranks is not None}
        plots.draw_coverage(counts[question.candidates], question.positives.items, tops, folder)
    except OSError as error:
        raise AmzrecError(f"cannot draw into {folder}: {error.strerror or error}. Free some space") from error
