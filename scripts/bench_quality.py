"""How good the answers are, beside the best peers on the same rows with the same metric code.

    pip install 'amzrec[bench]'
    python scripts/bench_quality.py DATA --out benchmarks/quality.md          the whole table
    python scripts/bench_quality.py DATA --only ml-100k,amazon                parts of it

DATA holds ml-100k/, ml-1m/ and amazon_us_reviews/. Every measurement is kept as JSON in --keep and not repeated, so
that a run that was ended goes on; the table is made of what is there. amzrec trains one joint model with its default
flags: validation chooses the epochs, then it is fitted on train and valid. Peers are fitted on train and valid, with
settings that are published as good on the same data; none is chosen on the test rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

import amzrec
from amzrec.answers.recommender import Recommender
from amzrec.evaluation.judge import judge
from amzrec.evaluation.systems import Peer, System
from amzrec.evaluation.testset import TestSet, line_up_run
from amzrec.store.dataset import Dataset, open_dataset
from amzrec.store.run import Run, open_run

Figures = dict[str, Any]
Job = Callable[[Path, Path], Figures]  # (data, scratch folder) → what was measured
SEEDS = (42, 1, 2, 3, 4)
EASE_L2, ALS_FACTORS, WIDTH = 300.0, 64, 64


# --- amzrec


def trained(source: Path | Dataset, folder: Path, split: Figures | None, **settings: Any) -> tuple[Run, float]:
    """One training; the run and its seconds, which do not hold the cleaning of the file."""
    config = amzrec.TrainConfig(**settings)
    if not isinstance(source, Dataset):
        source = amzrec.prepare(source, folder / "dataset", amzrec.PrepareConfig(**(split or {})), overwrite=True)
    start = time.monotonic()
    run = amzrec.train(source, folder / "run", config, overwrite=True)
    return run, time.monotonic() - start


def short(found: Figures) -> Figures:
    """The figures of one system that the tables show."""
    kept = {}
    for group, name in (("rating", "rmse"), ("retrieval", "top_100"), ("ranking", "recall@10"), ("ranking", "ndcg@10")):
        if name in found.get(group, {}):
            kept[name] = found[group][name]
    return kept


def measured(run: Run, seconds: float) -> Figures:
    """The model and the baselines in short, with the intervals of the differences."""
    document = amzrec.evaluate(run)
    systems = {"amzrec": short(document["model"]) | {"seconds": seconds}}
    systems |= {name: short(found) for name, found in document["baselines"].items()}
    return {"rows": document["protocol"]["test_rows"], "systems": systems, "differences": document["differences"]}


# --- peers, on the rows of a run


def peers(run: Run, dataset: Dataset, slow: bool) -> dict[str, Figures]:
    """Surprise, implicit and EASE, fitted on the rows that the run was fitted on."""
    testset = line_up_run(run, dataset)
    return judged(testset, [*rating_peers(testset, slow), *retrieval_peers(testset)])


def judged(testset: TestSet, peers: Iterable[tuple[str, Callable[[], System]]]) -> dict[str, Figures]:
    """The figures of peers, and the seconds that each took to be fitted and to answer."""
    found = {}
    for name, fit in peers:
        start = time.monotonic()
        system = fit()
        seconds = time.monotonic() - start
        found[name] = short(judge(testset, system).to_json()) | {"seconds": seconds}
    return found


def rating_peers(testset: TestSet, slow: bool) -> Iterator[tuple[str, Callable[[], System]]]:
    """Surprise's models; the settings of SVD are those published as tuned on ML-100K."""
    import surprise

    low, high = (testset.scale.min, testset.scale.max) if testset.scale else (1.0, 5.0)
    fit = testset.fit.take(np.flatnonzero(~np.isnan(testset.fit.stars)))
    rows = surprise.Dataset(surprise.Reader(rating_scale=(low, high)))
    triples = zip(fit.customer.tolist(), fit.product.tolist(), fit.stars.tolist(), strict=True)
    rows = rows.construct_trainset([(c, p, s, None) for c, p, s in triples])

    def answers(model: Any) -> Callable[[], System]:
        def stars() -> System:
            model.fit(rows)
            pairs = zip(testset.reviews.customer.tolist(), testset.reviews.product.tolist(), strict=True)
            return Peer("peer", rated=np.array([model.predict(c, p, clip=False).est for c, p in pairs]))

        return stars

    yield "Surprise biases", answers(surprise.BaselineOnly(verbose=False))
    tuned = {"n_factors": 50, "n_epochs": 60, "lr_all": 0.005, "reg_all": 0.08}
    yield "Surprise SVD, tuned", answers(surprise.SVD(**tuned, random_state=1))
    if slow:
        yield "Surprise SVD++", answers(surprise.SVDpp(random_state=1))


def retrieval_peers(testset: TestSet) -> Iterator[tuple[str, Callable[[], System]]]:
    """implicit's ALS and BPR, EASE (Steck 2019, eq. 8) and EASE cut to 64 directions, which is two towers."""
    from implicit.als import AlternatingLeastSquares
    from implicit.bpr import BayesianPersonalizedRanking
    from scipy.sparse import csr_matrix

    column = testset.column[testset.fit.product]
    kept = column >= 0
    customers = int(max(testset.fit.customer.max(), testset.customers.max())) + 1
    shape = (customers, len(testset.candidates))
    seen = csr_matrix((np.ones(kept.sum(), np.float32), (testset.fit.customer[kept], column[kept])), shape=shape)

    def factors(model: Any) -> Callable[[], System]:
        def ranked() -> System:
            model.fit(seen, show_progress=False)
            return Peer("peer", customers=model.user_factors[testset.customers], candidates=model.item_factors)

        return ranked

    def ease(rank: int = 0) -> Callable[[], System]:
        def ranked() -> System:
            gram = np.asarray((seen.T @ seen).todense(), np.float64)
            gram[np.diag_indices_from(gram)] += EASE_L2
            inverse = np.linalg.inv(gram)
            weights = -inverse / np.diag(inverse)
            np.fill_diagonal(weights, 0.0)
            query = np.asarray(seen[testset.customers].todense(), np.float32)
            if not rank:
                return Peer("peer", customers=query, candidates=weights.T.astype(np.float32))
            left, size, right = np.linalg.svd(weights)
            queries = query @ (left[:, :rank] * size[:rank])
            return Peer("peer", customers=queries, candidates=right[:rank].T.astype(np.float32))

        return ranked

    als = AlternatingLeastSquares(ALS_FACTORS, regularization=0.05, alpha=1.0, iterations=15, random_state=1)
    yield "implicit ALS, 64", factors(als)
    yield "implicit BPR, 64", factors(BayesianPersonalizedRanking(WIDTH, random_state=1))
    if len(testset.candidates) < 10_000:  # it inverts products x products
        yield "EASE", ease()
        yield "EASE, rank 64", ease(WIDTH)


# --- what is measured


def fold(number: int) -> Job:
    """One published fold of ML-100K."""

    def job(data: Path, folder: Path) -> Figures:
        split = {"split": "given", "test_source": str(data / f"ml-100k/u{number}.test")}
        run, seconds = trained(data / f"ml-100k/u{number}.base", folder, split)
        found = measured(run, seconds)
        found["systems"] |= peers(run, open_dataset(folder / "dataset"), slow=number == 1)
        return found

    return job


def amazon(split: str, seed: int) -> Job:
    """The Amazon TSV, titles as products."""

    def job(data: Path, folder: Path) -> Figures:
        source = next((data / "amazon_us_reviews").glob("*.tsv"))
        run, seconds = trained(source, folder, {"product_key": "title", "split": split, "seed": seed})
        found = measured(run, seconds)
        told = amzrec.evaluate(run, context="category")
        systems = {"amzrec": told["model"], **told["baselines"]}
        known = {f"{name}, category known": short({"retrieval": s.get("retrieval", {})}) for name, s in systems.items()}
        found["systems"] |= {name: figures for name, figures in known.items() if figures}
        return found

    return job


def ml_1m_stars(data: Path, folder: Path) -> Figures:
    """ML-1M, 90:10 at random."""
    run, seconds = trained(data / "ml-1m", folder, {"test": 0.1, "valid": 0.05})
    found = measured(run, seconds)
    testset = line_up_run(run, open_dataset(folder / "dataset"))
    found["systems"] |= judged(testset, rating_peers(testset, slow=True))
    return found


def ml_1m_retrieval(data: Path, folder: Path) -> Figures:
    """ML-1M, reviews of 3 stars and more, 8:1:1 within each customer."""
    reviews = pyarrow.csv.read_csv(data / "ml-1m/ratings.csv")
    kept = reviews.filter(pa.compute.greater_equal(reviews["rating"], 3))
    pyarrow.csv.write_csv(kept, folder / "liked.csv")
    run, seconds = trained(folder / "liked.csv", folder, {"split": "per-customer", "test": 0.1, "valid": 1 / 9})
    found = measured(run, seconds)
    found["systems"] |= peers(run, open_dataset(folder / "dataset"), slow=False)
    return found


def listwise(loss: str, size: int = 5) -> Job:
    """ML-100K, 70/15/15, rating alone: nDCG@5 of lists of 5 of one customer, learned from lists of `size`."""

    def job(data: Path, folder: Path) -> Figures:
        split = {"test": 0.15, "valid": 0.15 / 0.85}
        run, _ = trained(data / "ml-100k", folder, split, retrieval_weight=0, rating_loss=loss, list_size=size)
        document = amzrec.evaluate(run)
        mean = document["baselines"]["product_bias"]["rating"]["ndcg@5"]
        name = loss if size == 5 else f"{loss}, lists of {size}"
        return {"systems": {name: {"ndcg@5": document["model"]["rating"]["ndcg@5"]}, "product mean": {"ndcg@5": mean}}}

    return job


def scarce(seed: int) -> Job:
    """u1 with 10 % of the stars: joint against rating only, of the same width."""

    def job(data: Path, folder: Path) -> Figures:
        names = ["customer", "product", "stars", "time"]
        read = pyarrow.csv.ReadOptions(column_names=names), pyarrow.csv.ParseOptions(delimiter="\t")
        for part in ("base", "test"):
            reviews = pyarrow.csv.read_csv(data / f"ml-100k/u1.{part}", *read)
            if part == "base":
                kept = np.random.default_rng(seed).random(len(reviews)) < 0.1
                stars = pa.array(reviews["stars"].to_numpy(), mask=~kept)
                reviews = reviews.set_column(2, "stars", stars)
            pyarrow.csv.write_csv(reviews, folder / f"{part}.csv")
        columns = "customer=customer,product=product,stars=stars,timestamp=time"
        split = {"split": "given", "test_source": str(folder / "test.csv"), "columns": columns, "seed": seed}
        dataset = amzrec.prepare(folder / "base.csv", folder / "dataset", amzrec.PrepareConfig(**split))
        found = {}
        for name, weight in (("joint", 1.0), ("rating only", 0.0)):
            run, _ = trained(dataset, folder, None, retrieval_weight=weight, seed=seed)
            document = amzrec.evaluate(run)
            found[name] = {"rmse": document["model"]["rating"]["rmse"]}
        bias = document["baselines"]["customer_product_bias"]["rating"]["rmse"]
        return {"systems": found | {"customer and product bias": {"rmse": bias}}}

    return job


def control(source: str, seed: int, **settings: Any) -> Job:
    """One task or both, the towers of one width: on u1, or on ML-1M 90:10 at random."""

    def job(data: Path, folder: Path) -> Figures:
        split: Figures = {"test": 0.1, "valid": 0.05, "seed": seed}
        if source != "ml-1m":
            split = {"split": "given", "test_source": str(data / "ml-100k/u1.test"), "seed": seed}
        dataset = amzrec.prepare(data / source, folder / "dataset", amzrec.PrepareConfig(**split))
        found = {}
        for name, weights in (("joint", (1, 1)), ("rating only", (1, 0)), ("retrieval only", (0, 1))):
            tasks = dict(zip(("rating_weight", "retrieval_weight"), map(float, weights), strict=True))
            run, seconds = trained(dataset, folder, None, seed=seed, **tasks, **settings)
            figures = short(amzrec.evaluate(run)["model"])
            asked = {"rmse": weights[0], "recall@10": weights[1], "ndcg@10": weights[1], "top_100": weights[1]}
            found[name] = {metric: figures[metric] for metric, weight in asked.items() if weight} | {"seconds": seconds}
        return {"systems": found}

    return job


def order(history: str) -> Job:
    """ML-100K, the last review of each customer asked: a bag of products, or their order as well."""

    def job(data: Path, folder: Path) -> Figures:
        run, seconds = trained(data / "ml-100k", folder, {"split": "leave-last-out"}, history=history)
        found = measured(run, seconds)
        found["systems"][history] = found["systems"].pop("amzrec")
        return found

    return job


def catalogue(data: Path, folder: Path) -> Figures:
    """The Amazon TSV at random, all its titles as candidates: the test reviews of those without a review in train.

    Among all titles none of these comes near the first 100 in any system, so they are ranked among themselves as well,
    where popularity is no help: top 100 by chance is 100 in the number of them.
    """
    source = next((data / "amazon_us_reviews").glob("*.tsv"))
    run, _ = trained(source, folder, {"product_key": "title", "catalogue": "all"})
    document = amzrec.evaluate(run)
    systems = {"amzrec": document["model"], **document["baselines"]}
    new = {name: found["slices"]["new_product"] for name, found in systems.items()}
    found = {name: short(figures) for name, figures in new.items()}
    found |= among_new(run, open_dataset(folder / "dataset"))
    return {"rows": new["amzrec"]["rows"], "systems": found}


def among_new(run: Run, dataset: Dataset) -> dict[str, Figures]:
    """top-100 of the test reviews of products without a review, ranked among these products alone, ties against us."""
    vectors, test = run.vectors, dataset.test
    candidates = vectors.candidates
    new = candidates[vectors.product_counts[candidates] == 0]
    asked = np.isin(test.product, new)
    scores = vectors.retrieval_query[test.customer[asked]] @ vectors.retrieval_candidate[new].T
    own = np.searchsorted(new, test.product[asked])
    above = (scores >= scores[np.arange(len(own)), own][:, None]).sum(axis=1) - 1
    found = {"amzrec, among new products": {"top_100": float((above < 100).mean())}}
    return found | {"chance, among new products": {"top_100": 100 / len(new)}}


def hidden_products(data: Path, folder: Path) -> Figures:
    """ML-100K, all reviews of a fifth of its films held out: films known by title and genres alone."""
    names = ["customer", "product", "stars", "time"]
    read = pyarrow.csv.ReadOptions(column_names=names), pyarrow.csv.ParseOptions(delimiter="\t")
    reviews = pyarrow.csv.read_csv(data / "ml-100k/u.data", *read)
    genres = [line.split("|")[0] for line in (data / "ml-100k/u.genre").read_text().split("\n") if "|" in line]
    with (folder / "films.jsonl").open("w") as out:
        for line in (data / "ml-100k/u.item").read_text("latin-1").splitlines():
            film = line.split("|")
            kinds = [genre for genre, is_one in zip(genres, film[5:], strict=True) if is_one == "1"]
            out.write(json.dumps({"id": film[0], "title": film[1], "category": kinds}) + "\n")
    product = reviews["product"].to_numpy()
    films = np.unique(product)
    out_of_train = np.isin(product, np.random.default_rng(1).choice(films, len(films) // 5, replace=False))
    for name, mask in (("base", ~out_of_train), ("test", out_of_train)):
        pyarrow.csv.write_csv(reviews.filter(pa.array(mask)), folder / f"{name}.csv")
    columns = "customer=customer,product=product,stars=stars,timestamp=time"
    split = {"split": "given", "test_source": str(folder / "test.csv"), "columns": columns, "catalogue": "all"}
    run, _ = trained(folder / "base.csv", folder, split | {"titles": str(folder / "films.jsonl")})
    document = amzrec.evaluate(run)
    found = {name: short(figures) for name, figures in {"amzrec": document["model"], **document["baselines"]}.items()}
    found |= among_new(run, open_dataset(folder / "dataset"))
    return {"rows": document["protocol"]["test_rows"], "systems": found}


def hidden(data: Path, folder: Path) -> Figures:
    """A fifth of ML-100K's customers, half of whose products are shown: known to the model, or folded in afterwards."""
    columns = ["customer", "product", "stars", "time"]
    read = pyarrow.csv.ReadOptions(column_names=columns), pyarrow.csv.ParseOptions(delimiter="\t")
    reviews = pyarrow.csv.read_csv(data / "ml-100k/u.data", *read)
    rng = np.random.default_rng(1)
    customer = reviews["customer"].to_numpy()
    group = rng.choice(np.unique(customer), 200, replace=False)
    inside, half = np.isin(customer, group), rng.random(len(reviews)) < 0.5
    parts = {"rest": ~inside, "shown": inside & half, "asked": inside & ~half}
    for name, mask in parts.items():
        pyarrow.csv.write_csv(reviews.filter(pa.array(mask)), folder / f"{name}.csv")
    both = pa.concat_tables([reviews.filter(pa.array(parts[name])) for name in ("rest", "shown")])
    pyarrow.csv.write_csv(both, folder / "both.csv")
    names = ",".join(f"{name if name != 'time' else 'timestamp'}={name}" for name in columns)
    split = {"split": "given", "test_source": str(folder / "asked.csv"), "columns": names}
    shown, asked = (reviews.filter(pa.array(parts[name])) for name in ("shown", "asked"))
    found: Figures = {}
    for name, source in (("known", "both.csv"), ("folded in", "rest.csv")):
        run, _ = trained(folder / source, folder / name, split)
        recommender = Recommender(open_run(run.path).vectors)
        ways = {"known": known_query} if name == "known" else {"folded in": folded_in, "popularity": nobody}
        for way, query in ways.items():
            found[way] = {"recall@10": hidden_recall(recommender, group, shown, asked, query)}
    return {"systems": found}


def known_query(recommender: Recommender, customer: str, liked: Any, stars: Any) -> Any:
    """As the model knows the customer."""
    return recommender.query(recommender.customer(customer)).retrieval


def folded_in(recommender: Recommender, customer: str, liked: Any, stars: Any) -> Any:
    """From the reviews that are shown alone."""
    return recommender.fold_in(0, liked, stars).retrieval


def nobody(recommender: Recommender, customer: str, liked: Any, stars: Any) -> Any:
    """As an unknown customer."""
    return recommender.query(0).retrieval


def hidden_recall(recommender: Recommender, group: Any, shown: Any, asked: Any, query: Callable[..., Any]) -> float:
    """Mean recall@10 of the asked products, the shown ones left out, for the vector that `query` makes of these."""

    def rows(reviews: Any, customer: int) -> tuple[Any, Any]:
        mine = reviews.filter(pa.compute.equal(reviews["customer"], customer))
        found = [recommender.vectors.product_ids.find(str(p)) or 0 for p in mine["product"].to_pylist()]
        return np.array(found, np.int32), mine["stars"].to_numpy().astype(np.float32)

    recalls = []
    for customer in group.tolist():
        liked, stars = rows(shown, customer)
        wanted, _ = rows(asked, customer)
        if not len(wanted):
            continue
        known = liked > 0
        asking = query(recommender, str(customer), liked[known], stars[known])
        top, _ = recommender.retrieve(asking[None], 10, [liked[known]])
        recalls.append(np.isin(top[0], wanted[wanted > 0]).sum() / len(wanted))
    return float(np.mean(recalls))


def pairs(source: str) -> Job:
    """Item to item: one product of a customer's train reviews is shown, is the tested one among the 10 answered?

    Every test review of a product that train has, with one other product of the same customer, drawn at random. Asked
    are `similar`, which leaves the bias of popularity out, and `recommend --liked` for an unknown customer.
    """

    def job(data: Path, folder: Path) -> Figures:
        fold = {"split": "given", "test_source": str(data / "ml-100k/u1.test")}
        run, _ = (
            trained(data / "ml-100k/u1.base", folder, fold)
            if source == "u1"
            else trained(amzrec.prepare(None, folder / "dataset"), folder, None)
        )
        dataset, recommender = open_dataset(folder / "dataset"), Recommender(run.vectors)
        rng = np.random.default_rng(1)
        train, test = dataset.train, dataset.test
        counts = recommender.vectors.product_counts
        popular = recommender.candidates[np.argsort(-counts[recommender.candidates], kind="stable")[:11]]
        mine: dict[int, list[int]] = {}
        for c, p in zip(train.customer.tolist(), train.product.tolist(), strict=True):
            mine.setdefault(c, []).append(p)
        near: dict[int, tuple[list[int], list[int]]] = {}
        hits = {"amzrec similar": 0, "amzrec recommend --liked": 0, "popularity": 0}
        asked = 0
        for c, p in zip(test.customer.tolist(), test.product.tolist(), strict=True):
            if c not in mine or not counts[p]:
                continue
            shown = mine[c][rng.integers(len(mine[c]))]
            if shown not in near:
                one = np.array([shown], np.int32)
                liked, _ = recommender.retrieve(recommender.fold_in(0, one).retrieval[None], 10, [one])
                near[shown] = recommender.similar(shown, 10)[0].tolist(), liked[0].tolist()
            hits["amzrec similar"] += p in near[shown][0]
            hits["amzrec recommend --liked"] += p in near[shown][1]
            hits["popularity"] += p in [other for other in popular.tolist() if other != shown][:10]
            asked += 1
        return {"rows": asked, "systems": {name: {"hit@10": n / asked} for name, n in hits.items()}}

    return job


JOBS: dict[str, dict[str, Job]] = {
    "ml-100k": {f"u{n}": fold(n) for n in range(1, 6)},
    "amazon": {f"random {seed}": amazon("random", seed) for seed in SEEDS} | {"temporal": amazon("temporal", 42)},
    "listwise": {loss: listwise(loss) for loss in ("squared", "pairwise-hinge", "pairwise-logistic", "listmle")}
    | {"pairwise-hinge of 10": listwise("pairwise-hinge", 10)},
    "scarce": {f"seed {seed}": scarce(seed) for seed in SEEDS[:3]},
    "hidden": {"a fifth": hidden},
    "control": {f"seed {seed}": control("ml-100k/u1.base", seed) for seed in SEEDS[:3]},
    "control-ml-1m": {f"seed {seed}": control("ml-1m", seed, refit=False) for seed in SEEDS[:3]},
    "order": {history: order(history) for history in ("bag", "sequence")},
    "catalogue": {"new products": catalogue, "hidden films": hidden_products},
    "similar": {source: pairs(source) for source in ("u1", "sample")},
    "ml-1m": {"stars": ml_1m_stars, "retrieval": ml_1m_retrieval},
}


# --- the tables


@dataclasses.dataclass(frozen=True)
class Column:
    """The values of one figure of one system over the measurements of a part."""

    name: str
    digits: int = 4

    def show(self, values: list[float]) -> str:
        """Mean and, of several values, its standard error."""
        if not values:
            return ""
        mean = f"{np.mean(values):.{self.digits}f}"
        return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1) / np.sqrt(len(values)):.{self.digits}f}"


COLUMNS = [Column(name) for name in ("rmse", "top_100", "recall@10", "ndcg@10", "ndcg@5", "hit@10")] + [
    Column("seconds", 0)
]


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown, numbers to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def part_table(found: dict[str, Figures]) -> str:
    """The systems of one part: means over its measurements with standard errors."""
    systems = list(dict.fromkeys(name for each in found.values() for name in each["systems"]))
    values = {
        (system, c.name): [
            f["systems"][system][c.name] for f in found.values() if c.name in f["systems"].get(system, {})
        ]
        for system in systems
        for c in COLUMNS
    }
    used = [c for c in COLUMNS if any(values[system, c.name] for system in systems)]
    rows = [[system, *(c.show(values[system, c.name]) for c in used)] for system in systems]
    return table(["", *(c.name for c in used)], rows)


def gaps(found: dict[str, Figures]) -> str:
    """amzrec less a baseline, measurement by measurement, with 95 % intervals."""
    wanted = [
        ("product_bias", "rating", "rmse"), ("popularity", "retrieval", "top_100"),
        ("dated_popularity", "retrieval", "top_100"),
    ]  # fmt: skip
    rows = []
    for name, each in found.items():
        cells = []
        for rival, group, metric in wanted:
            gap = each["differences"][rival][group][metric]
            cells.append(f"{gap['difference']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f})")
        rows.append([name, *cells])
    return table(["amzrec less", *(f"{rival}: {metric}" for rival, _, metric in wanted)], rows)


def report(keep: Path) -> str:
    """Everything that was measured so far."""
    text = [
        "# Quality\n",
        "Made by `scripts/bench_quality.py`; means ± standard errors over the measurements named. Seconds are those of "
        "one training on 2 cores that other work shared, with the code of the day on which its part was measured: they "
        "compare the rows of one part; what a training takes alone stands in LOG.md.\n",
    ]
    for part, jobs in JOBS.items():
        found = {
            name: json.loads(kept(keep, part, name).read_text()) for name in jobs if kept(keep, part, name).exists()
        }
        text_of = {name: since(each.get("defaults", {})) for name, each in found.items()}
        alone = {name for name in found if part in ("ml-1m", "similar", "catalogue") or name == "temporal"}
        if together := {name: each for name, each in found.items() if name not in alone}:
            text.append(f"## {part}: {', '.join(together)}\n")
            for note in sorted({text_of[name] for name in together} - {""}):
                of = [name for name in together if text_of[name] == note]
                text.append(note if len(of) == len(together) else f"{', '.join(of)}: {note[0].lower()}{note[1:]}")
            text.append(part_table(together) + "\n")
        for name in found:
            if name in alone:
                text += [
                    f"## {part}, {name}\n",
                    *([text_of[name]] if text_of[name] else []),
                    part_table({name: found[name]}) + "\n",
                ]
        if part == "amazon" and found:
            text.append(gaps(found) + "\n")
    return "\n".join(text)


def since(defaults: Figures) -> str:
    """A line that tells which defaults of `train` were others when this was measured; empty if none."""
    if not defaults:
        return "Measured before the defaults of `train` were kept.\n"
    now = amzrec.TrainConfig().to_json()
    other = [f"{name} {defaults.get(name)}" for name in now if defaults.get(name) != now[name]]
    return f"Measured when `train` had other defaults: {', '.join(other)}.\n" if other else ""


def draw(keep: Path, file: Path) -> None:
    """The systems on the folds of ML-100K, a dot for each fold: RMSE, recall@10, top-100."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    places = [kept(keep, "ml-100k", name) for name in JOBS["ml-100k"]]
    folds = [json.loads(place.read_text())["systems"] for place in places if place.exists()]
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.5))
    wanted = (("rmse", "RMSE (less is better)"), ("recall@10", "recall@10"), ("top_100", "top-100, nothing removed"))
    for axis, (metric, label) in zip(axes, wanted, strict=True):
        systems = [name for name in folds[0] if metric in folds[0][name] and name != "global_mean"]
        for line, name in enumerate(reversed(systems)):
            values = [fold[name][metric] for fold in folds if name in fold]
            axis.plot(values, [line] * len(values), "o", color="C3" if name == "amzrec" else "C0", alpha=0.6)
        axis.set_yticks(range(len(systems)), list(reversed(systems)))
        axis.set_xlabel(label)
    figure.suptitle("MovieLens 100K, published folds")
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def kept(keep: Path, part: str, name: str) -> Path:
    """Where a measurement stands."""
    return keep / f"{part} {name}.json".replace(" ", "_")


def main() -> None:
    """Measure what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default=",".join(JOBS), help=f"of {', '.join(JOBS)}; part/name for one measurement")
    parser.add_argument("--keep", type=Path, default=Path("runs/quality"), help="folder of what was measured")
    parser.add_argument("--out", type=Path, help="Markdown file to write; default: only print")
    arguments = parser.parse_args()
    for wanted in arguments.only.split(","):
        part, _, one = wanted.partition("/")
        if part not in JOBS or one not in ("", *JOBS[part]):
            allowed = "; ".join(f"{part}: {', '.join(jobs)}" for part, jobs in JOBS.items())
            parser.error(f"--only {wanted} is not known; allowed are PART or PART/NAME of {allowed}")
    if not arguments.data.is_dir():
        parser.error(
            f"there is no folder {arguments.data}: name the one that holds ml-100k/, ml-1m/, amazon_us_reviews/"
        )
    arguments.keep.mkdir(parents=True, exist_ok=True)
    for wanted in arguments.only.split(","):
        part, _, one = wanted.partition("/")
        for name, job in JOBS[part].items():
            place = kept(arguments.keep, part, name)
            if place.exists() or one not in ("", name):
                continue
            folder = Path(tempfile.mkdtemp())
            try:
                found = job(arguments.data, folder)
            finally:
                shutil.rmtree(folder)
            place.write_text(json.dumps(found | {"defaults": amzrec.TrainConfig().to_json()}, indent=1) + "\n")
            print(place.name, json.dumps(found["systems"]), flush=True)
    text = report(arguments.keep)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)
        if any(kept(arguments.keep, "ml-100k", name).exists() for name in JOBS["ml-100k"]):
            draw(arguments.keep, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
