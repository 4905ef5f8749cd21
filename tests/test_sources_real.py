"""The real files: rows read equal what is known of each, and the figures that follow from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from amzrec.commands.prepare import prepare
from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError

pytestmark = pytest.mark.real


@pytest.mark.parametrize(
    ("source", "format", "read", "customers", "products"),
    [
        ("ml-100k", "movielens-100k", 100_000, 943, 1_682),
        ("ml-1m", "movielens-1m", 1_000_209, 6_040, 3_883),
        ("amazon_us_reviews/amazon_reviews_us_MCM2020.tsv", "amazon-us-reviews", 32_024, 30_560, 7_100),
        ("amazon_us_reviews/saved_ratings", "tensorflow", 32_024, 30_560, 7_100),
        ("amazon_2014/ratings_Electronics.csv", "amazon-2014", 50_698, 47_141, 3_529),
        ("amazon_2018/Magazine_Subscriptions.csv", "amazon-2018", 89_689, 72_098, 2_428),
        ("amazon_2018/Magazine_Subscriptions_5.json.gz", "amazon-json", 2_375, 348, 157),
        ("amazon_2023/Subscription_Boxes.jsonl.gz", "amazon-2023", 16_216, 15_237, 641),
        ("amazon_2023/Electronics_sample.parquet", "amazon-2023", 31_286, 16_841, 8_663),
    ],
)
def test_every_real_file_is_read_whole(
    real_data: Path, tmp_path: Path, source: str, format: str, read: int, customers: int, products: int
) -> None:
    key = "parent" if "2023/Sub" in source else "id"
    info = prepare(real_data / source, tmp_path / "out", PrepareConfig.of(product_key=key)).info
    counts = info.counts
    assert (info.format, counts.read, counts.rejected) == (format, read, {})
    assert (counts.customers, counts.products) == (customers, products)
    assert counts.read == counts.kept + counts.duplicates + counts.repeats


def test_the_amazon_tsv_by_title(real_data: Path, tmp_path: Path) -> None:
    file = real_data / "amazon_us_reviews" / "amazon_reviews_us_MCM2020.tsv"
    dataset = prepare(file, tmp_path / "out", PrepareConfig(product_key="title"))
    counts = dataset.info.counts
    assert (counts.customers, counts.products) == (30_560, 6_094)
    assert counts.test / counts.kept == pytest.approx(0.2, abs=0.007)  # 3 standard deviations
    known = dataset.customers["count"].to_numpy()[dataset.test.customer] > 0
    assert 0.04 < known.mean() < 0.09  # 7 % of the test rows have a customer that train knows, less the valid rows
    assert dataset.has_time


def test_the_published_fold_of_movielens_100k(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "ml-100k"
    config = PrepareConfig(split="given", test_source=str(folder / "u1.test"))
    dataset = prepare(folder / "u1.base", tmp_path / "out", config)
    assert len(dataset.test) == 20_000
    assert len(dataset.train) + len(dataset.valid) == 80_000
    assert len(np.unique(dataset.test.customer)) == 459  # u1.test holds the first 459 users
    titles = dataset.products["title"].to_pylist()
    assert "Star Wars (1977)" in titles
    # the whole of MovieLens with the same test reviews is the same dataset
    whole = prepare(folder, tmp_path / "whole", config)
    assert whole.customers.equals(dataset.customers)
    assert np.array_equal(whole.train.product, dataset.train.product)


def test_exact_duplicates_of_the_2018_file_are_counted(real_data: Path, tmp_path: Path) -> None:
    info = prepare(real_data / "amazon_2018" / "Magazine_Subscriptions.csv", tmp_path / "out").info
    assert info.counts.duplicates == 1_221


def test_pairs_of_the_2023_file_reviewed_twice_are_counted(real_data: Path, tmp_path: Path) -> None:
    counts = prepare(real_data / "amazon_2023" / "Subscription_Boxes.jsonl.gz", tmp_path / "out").info.counts
    assert counts.duplicates + counts.repeats == 263


@pytest.mark.long
def test_movielens_1m_has_no_temporal_split(real_data: Path, tmp_path: Path) -> None:
    with pytest.raises(AmzrecError, match="512,559 of 1,000,209 have none"):
        prepare(real_data / "ml-1m", tmp_path / "out", PrepareConfig(split="temporal"))


def test_a_temporal_split_of_the_amazon_tsv_trains_on_the_past(real_data: Path, tmp_path: Path) -> None:
    file = real_data / "amazon_us_reviews" / "amazon_reviews_us_MCM2020.tsv"
    dataset = prepare(file, tmp_path / "out", PrepareConfig(product_key="title", split="temporal"))
    assert dataset.train.timestamp.max() < dataset.valid.timestamp.min()
    assert dataset.valid.timestamp.max() < dataset.test.timestamp.min()
    assert len(dataset.test) / dataset.info.counts.kept == pytest.approx(0.2, abs=0.01)


def test_most_titles_of_the_2018_metadata_are_page_source_and_its_features_are_not(
    real_data: Path, tmp_path: Path
) -> None:
    folder = real_data / "amazon_2018"
    config = PrepareConfig(titles=str(folder / "meta_Magazine_Subscriptions.json.gz"))
    products = prepare(folder / "Magazine_Subscriptions_5.json.gz", tmp_path / "out", config).products.to_pylist()
    titles = [product["title"] for product in products if product["title"]]
    assert not any("<span" in title or "&amp;" in title for title in titles)
    assert sum(bool(product["features"]) for product in products) > 1_000
