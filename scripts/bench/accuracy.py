"""The parts of the quality table that are about known customers and products, each a job that trains and measures."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

import amzrec
from amzrec.evaluation.testset import line_up_run, line_up_test
from amzrec.store.dataset import open_dataset
from myfm_peers import ITERATIONS, myfm_peers
from peers import judged, peers, rating_peers
from trained import Figures, Job, measured, short, trained


def fold(number: int) -> Job:
    """One published fold of ML-100K."""

    def job(data: Path, folder: Path) -> Figures:
        run, seconds = trained(data / f"ml-100k/u{number}.base", folder, given(data / "ml-100k", number))
        found = measured(run, seconds)
        found["systems"] |= peers(run, open_dataset(folder / "dataset"), slow=number == 1)
        return found

    return job


def given(folder: Path, number: int) -> Figures:
    """The split of a fold of ML-100K."""
    return {"split": "given", "test_source": str(folder / f"u{number}.test")}


def fold_without_times(number: int) -> Job:
    """One published fold of ML-100K, its reviews without the column of times."""

    def job(data: Path, folder: Path) -> Figures:
        for name in ("u.item", "u.genre", "u.user"):
            shutil.copyfile(data / "ml-100k" / name, folder / name)
        for name in (f"u{number}.base", f"u{number}.test"):
            lines = (data / "ml-100k" / name).read_text().splitlines()
            (folder / name).write_text("".join(line.rpartition("\t")[0] + "\n" for line in lines))
        run, seconds = trained(folder / f"u{number}.base", folder, given(folder, number))
        found = measured(run, seconds)
        return found | {"systems": {"amzrec, without times": found["systems"]["amzrec"]}}

    return job


def fold_myfm(number: int, iterations: int = ITERATIONS) -> Job:
    """One published fold of ML-100K, its stars by myFM."""

    def job(data: Path, folder: Path) -> Figures:
        split = amzrec.PrepareConfig(**given(data / "ml-100k", number))
        dataset = amzrec.prepare(data / f"ml-100k/u{number}.base", folder / "dataset", split)
        parts = ("train", "valid")
        known = np.unique(np.concatenate([getattr(dataset, part).product for part in parts]))
        testset = line_up_test(dataset, parts, known)
        return {"rows": len(testset), "systems": judged(testset, myfm_peers(testset, dataset, iterations))}

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
        split: Figures = {"split": "given", "test_source": str(folder / "test.csv"), "columns": columns, "seed": seed}
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


def bounds(seed: int) -> Job:
    """ML-1M 90:10 at random, both tasks: steps of bounded cost, and such that read histories of 1,000 reviews whole."""

    def job(data: Path, folder: Path) -> Figures:
        split = amzrec.PrepareConfig(test=0.1, valid=0.05, seed=seed)
        dataset = amzrec.prepare(data / "ml-1m", folder / "dataset", split)
        whole: Figures = {"history_budget": 1 << 40, "compared": 0}
        found = {}
        for name, settings in (("bounded", {}), ("whole", whole)):
            run, seconds = trained(dataset, folder, None, seed=seed, refit=False, **settings)
            found[name] = short(amzrec.evaluate(run)["model"]) | {"seconds": seconds}
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
