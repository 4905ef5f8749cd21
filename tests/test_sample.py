"""The embedded sample holds what its generator promises, read back from the saved data itself."""

from __future__ import annotations

import collections
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import make_sample
from conftest import ROOT
from truth import Truth, recall_at_10

STRINGS = {
    *("marketplace", "customer_id", "review_id", "product_id", "product_parent", "product_title", "product_category"),
    *("review_headline", "review_body", "review_date"),
}


def read(folder: Path) -> Any:
    """All elements of a saved dataset, as the Amazon notebook loads it."""
    import tensorflow as tf

    dataset = tf.data.Dataset.load(str(folder))
    columns = next(iter(dataset.batch(100_000)))["data"]
    return dataset.element_spec, {name: column.numpy() for name, column in columns.items()}


@pytest.fixture(scope="module")
def saved() -> Any:
    return read(ROOT / "data" / "sample")


@pytest.fixture(scope="module")
def pairs(saved: Any) -> tuple[list[str], list[str], Any]:
    _, columns = saved
    customers = [value.decode() for value in columns["customer_id"]]
    return customers, [value.decode() for value in columns["product_id"]], columns["star_rating"].astype(float)


def rmse(prediction: Any, stars: Any) -> float:
    return float(np.sqrt(np.mean((np.clip(prediction, 1, 5) - stars) ** 2)))


def test_every_element_has_the_15_fields_of_amazon_us_reviews(saved: Any) -> None:
    spec, columns = saved
    assert list(spec) == ["data"]
    dtypes = {name: tensor.dtype.name for name, tensor in spec["data"].items()}
    assert dtypes == {
        **dict.fromkeys(STRINGS, "string"),
        **dict.fromkeys(("star_rating", "helpful_votes", "total_votes"), "int32"),
        **dict.fromkeys(("vine", "verified_purchase"), "int64"),
    }
    assert set(columns["star_rating"]) == {1, 2, 3, 4, 5}
    assert (columns["helpful_votes"] <= columns["total_votes"]).all()


def test_the_sample_is_small() -> None:
    files = [path for path in (ROOT / "data").rglob("*") if path.is_file()]
    assert 3e6 < sum(path.stat().st_size for path in files) < 6e6


def test_no_customer_reviews_a_product_twice_and_a_title_names_one_product(saved: Any, pairs: Any) -> None:
    customers, products, _ = pairs
    assert len(set(zip(customers, products, strict=True))) == len(customers)
    _, columns = saved
    for key in ("product_title", "product_parent"):
        assert len(set(zip(products, columns[key], strict=True))) == len(set(products)) == len(set(columns[key]))


def test_most_customers_have_one_or_two_reviews_and_some_have_many(pairs: Any) -> None:
    counts = np.array(list(collections.Counter(pairs[0]).values()))
    assert np.mean(counts <= 2) > 0.6
    assert np.mean(counts >= 8) > 0.25
    assert np.mean((counts > 2) & (counts < 8)) == 0


def test_the_truth_predicts_the_stars_as_well_as_the_planted_noise_allows(pairs: Any) -> None:
    customers, products, stars = pairs
    mean, variance = Truth().stars(customers, products)
    assert rmse(mean, stars) == pytest.approx(np.sqrt(variance.mean()), rel=0.03)
    assert abs(np.mean(mean - stars)) < 0.02


def test_the_global_mean_is_at_least_25_percent_above_the_noise_floor(pairs: Any) -> None:
    customers, products, stars = pairs
    _, variance = Truth().stars(customers, products)
    assert rmse(stars.mean(), stars) > 1.25 * np.sqrt(variance.mean())


def test_a_product_bias_leaves_most_of_the_knowable_stars_unexplained(pairs: Any) -> None:
    customers, products, stars = pairs
    mean, _ = Truth().stars(customers, products)
    by_product: dict[str, list[float]] = collections.defaultdict(list)
    for product, value in zip(products, stars, strict=True):
        by_product[product].append(value)
    bias = np.array([np.mean(by_product[product]) for product in products])
    assert rmse(bias, stars) - rmse(mean, stars) > 0.3


def test_personal_retrieval_beats_popularity_clearly(pairs: Any) -> None:
    customers, products, _ = pairs
    truth, rng = Truth(), np.random.default_rng(0)
    fitted: dict[str, set[int]] = collections.defaultdict(set)
    tested: dict[str, set[int]] = collections.defaultdict(set)
    for customer, product in zip(customers, products, strict=True):
        (tested if rng.random() < 0.2 else fitted)[customer].add(truth.product[product])
    counts = np.bincount([p for row in fitted.values() for p in row], minlength=len(truth.product))
    oracle = recall_at_10(truth.shares, fitted, tested)
    popularity = recall_at_10(lambda _: counts, fitted, tested)
    assert oracle > 0.3
    assert oracle > 1.6 * popularity


def test_the_category_and_the_words_of_a_title_tell_group_and_style(saved: Any) -> None:
    _, columns = saved
    truth = Truth()
    for id_, title, category in zip(
        *(columns[k] for k in ("product_id", "product_title", "product_category")), strict=True
    ):
        row = truth.product[id_.decode()]
        assert category.decode() == make_sample.GROUPS[truth.products["group"][row]]
        light = any(word in title.decode().split() for word in make_sample.LIGHT)
        assert light == (truth.products["style"][row] < -1 / 3)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    make_sample.make(tmp_path)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    kept = sorted(p.relative_to(ROOT / "data") for p in (ROOT / "data").rglob("*") if p.is_file())
    assert made == kept
    for name in made:
        assert (tmp_path / name).read_bytes() == (ROOT / "data" / name).read_bytes(), name


def test_the_planted_facts_name_the_seed_and_their_columns() -> None:
    planted = json.loads((ROOT / "data" / "sample.json").read_text())
    assert planted["seed"] == make_sample.SEED
    assert len(planted["customers"]) == make_sample.CUSTOMERS
    assert len(planted["products"]) == make_sample.PER_GROUP * len(planted["groups"])


@pytest.mark.long
def test_the_joint_model_finds_most_of_what_can_be_known(tmp_path: Path) -> None:
    import amzrec
    from amzrec.store.dataset import Reviews

    dataset = amzrec.prepare(None, tmp_path / "dataset", amzrec.PrepareConfig(product_key="id"))
    run = amzrec.train(dataset, tmp_path / "run", amzrec.TrainConfig())
    found = amzrec.evaluate(run)
    truth = Truth()
    customers, products = (t.to_pylist() for t in (dataset.customers["customer_id"], dataset.products["product_id"]))
    mean, _ = truth.stars([customers[c] for c in dataset.test.customer], [products[p] for p in dataset.test.product])
    sets: list[dict[str, set[int]]] = []
    for part in (Reviews.concat([dataset.train, dataset.valid]), dataset.test):
        sets.append(collections.defaultdict(set))
        for c, p in zip(part.customer, part.product, strict=True):
            sets[-1][customers[c]].add(truth.product[products[p]])
    floor, oracle = rmse(mean, dataset.test.stars), recall_at_10(truth.shares, *sets)
    model, baselines = found["model"], found["baselines"]
    bias, popularity = baselines["product_bias"]["rating"]["rmse"], baselines["popularity"]["ranking"]["recall@10"]
    assert floor < model["rating"]["rmse"] < (floor + bias) / 2
    assert popularity + 0.6 * (oracle - popularity) < model["ranking"]["recall@10"] < oracle
