"""The parts of the quality table about customers and products that training has not seen, and similar products."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

import amzrec
from amzrec.answers.recommender import Query, Recommender
from amzrec.store.dataset import Dataset, open_dataset
from amzrec.store.run import Run, open_run
from trained import Figures, Job, short, trained


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


def known_query(recommender: Recommender, customer: str, liked: Any, stars: Any) -> Query:
    """As the model knows the customer."""
    return recommender.query(recommender.customer(customer))


def folded_in(recommender: Recommender, customer: str, liked: Any, stars: Any) -> Query:
    """From the reviews that are shown alone."""
    return recommender.fold_in(0, liked, stars)


def nobody(recommender: Recommender, customer: str, liked: Any, stars: Any) -> Query:
    """As an unknown customer."""
    return recommender.query(0)


def hidden_recall(recommender: Recommender, group: Any, shown: Any, asked: Any, query: Callable[..., Query]) -> float:
    """Mean recall@10 of the asked products, the shown ones left out, for what `query` makes of these."""

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
        top, _ = recommender.retrieve(asking.retrieval[None], 10, [liked[known]], [asking.history])
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
                asking = recommender.fold_in(0, one)
                liked, _ = recommender.retrieve(asking.retrieval[None], 10, [one], [asking.history])
                near[shown] = recommender.similar(shown, 10)[0].tolist(), liked[0].tolist()
            hits["amzrec similar"] += p in near[shown][0]
            hits["amzrec recommend --liked"] += p in near[shown][1]
            hits["popularity"] += p in [other for other in popular.tolist() if other != shown][:10]
            asked += 1
        return {"rows": asked, "systems": {name: {"hit@10": n / asked} for name, n in hits.items()}}

    return job
