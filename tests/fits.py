"""Small datasets in memory, and models on them: a few reviews with stars, clicks, dates, features and title words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from amzrec.config import PrepareConfig, Recipe, TrainConfig
from amzrec.features.fitted import FittedReviews, fit_reviews
from amzrec.features.order import steps_of
from amzrec.store.dataset import CUSTOMER_SCHEMA, NO_TIME, PRODUCT_SCHEMA, Dataset, DatasetInfo, Reviews, Scale
from amzrec.store.protocol import DataProtocol

DAY = 86_400
SCALE = Scale(1.0, 5.0)
CUSTOMERS, PRODUCTS = 12, 9  # the last of each is never reviewed in train


def reviews_of(rows: list[tuple[int, int, float]], days: list[float] | None = None) -> Reviews:
    """Reviews from (customer row, product row, stars; NaN for a click), on these days."""
    customer, product, stars = (np.array(column) for column in zip(*rows, strict=True))
    time = np.full(len(rows), NO_TIME) if days is None else (np.array(days) * DAY).astype(np.int64)
    return Reviews(customer.astype(np.int32), product.astype(np.int32), stars.astype(np.float32), time)


def dataset_of(
    train: Reviews,
    valid: Reviews | None = None,
    catalogue: str = "train",
    scale: Scale = SCALE,
    fingerprint: str = "memory",
) -> Dataset:
    """A dataset in memory with customers c1 .. c12 and products p1 .. p9, the odd ones of both described."""
    described = [["age=30", "kind=odd"] if row % 2 else [] for row in range(20)]
    customers = {
        "row": range(CUSTOMERS + 1),
        "customer_id": ["", *(f"c{row}" for row in range(1, CUSTOMERS + 1))],
        "count": np.bincount(train.customer, minlength=CUSTOMERS + 1),
        "features": described[: CUSTOMERS + 1],
    }
    products = {
        "row": range(PRODUCTS + 1),
        "product_id": ["", *(f"p{row}" for row in range(1, PRODUCTS + 1))],
        "title": [None, *(f"Product {row}" for row in range(1, PRODUCTS + 1))],
        "count": np.bincount(train.product, minlength=PRODUCTS + 1),
        "features": described[: PRODUCTS + 1],
        "tokens": [[], *([100, 200 + row // 4] for row in range(1, PRODUCTS + 1))],
    }
    protocol = DataProtocol(**PrepareConfig.of(catalogue=catalogue).protocol())
    info = DatasetInfo(source="memory", fingerprint=fingerprint, protocol=protocol, stars=scale)
    tables = (
        pa.table({name: list(column) for name, column in table.items()}, schema)
        for table, schema in ((customers, CUSTOMER_SCHEMA), (products, PRODUCT_SCHEMA))
    )
    dataset = Dataset(Path("memory"), info, *tables)
    none = train.take(np.zeros(0, np.int64))
    dataset.__dict__.update(train=train, valid=none if valid is None else valid, test=none)
    return dataset


def random_reviews(seed: int = 0, clicks: bool = True, dates: bool = True) -> Reviews:
    """Some 45 reviews of 11 customers and 8 products, no pair twice; every fifth a click."""
    rng = np.random.default_rng(seed)
    pairs = [(c, p) for c in range(1, CUSTOMERS) for p in range(1, PRODUCTS) if rng.random() < 0.5]
    stars = [np.nan if clicks and i % 5 == 4 else float(rng.integers(1, 6)) for i in range(len(pairs))]
    rows = [(c, p, s) for (c, p), s in zip(pairs, stars, strict=True)]
    return reviews_of(rows, list(rng.uniform(0, 400, len(rows))) if dates else None)


def recipe_of(dataset: Dataset, **settings: Any) -> Recipe:
    """A small recipe for a dataset: 6 wide, one hidden layer of 4."""
    config = TrainConfig.of(**{"dim": 6, "head": (4,), "own_vector": 3, "batch_size": 64} | settings)
    return config.resolve(dataset.facts(refit=False))


def fitted_of(reviews: Reviews, **settings: Any) -> FittedReviews:
    """These reviews, fitted; every customer and product has a vector of its own unless the settings say otherwise."""
    dataset = dataset_of(reviews)
    return fit_reviews(dataset, reviews, recipe_of(dataset, **{"own_vector": 1} | settings))


def model_of(recipe: Recipe, fitted: FittedReviews, dataset: Dataset, noise: float = 0.3) -> Any:
    """A MultitaskModel on these reviews whose every weight was moved at random, so that nothing is zero by chance."""
    from amzrec.model.keras2 import import_tensorflow
    from amzrec.model.multitask import MultitaskModel

    tf: Any = import_tensorflow()
    model = MultitaskModel(recipe, fitted, dataset.customers["customer_id"], dataset.products["product_id"])
    model.compile(optimizer=tf.keras.optimizers.Adagrad(0.1), run_eagerly=True)
    rng = np.random.default_rng(5)
    for variable in model.trainable_variables if noise else ():
        variable.assign_add(tf.constant(rng.normal(0, noise, variable.shape), tf.float32))
    return model


def small(half_life: float | None = None, noise: float = 0.3, **settings: Any) -> tuple[FittedReviews, Any]:
    """The fitted reviews of random_reviews and a model on them."""
    reviews = random_reviews()
    dataset = dataset_of(reviews)
    recipe = recipe_of(dataset, **settings)
    fitted = fit_reviews(dataset, reviews, recipe)
    if half_life is not None:
        fitted = fitted.with_popularity(reviews, half_life)
    return fitted, model_of(recipe, fitted, dataset, noise)


def numpy_uniform(seed: int, stream: int, number: int) -> np.ndarray:
    """Random numbers for steps in tests: features.steps.UniformSource without TensorFlow."""
    return np.random.default_rng([seed % (1 << 64), stream]).random(number, np.float32)


def step_of(fitted: FittedReviews, recipe: Recipe, index: Any = None, number: int = 0) -> dict[str, Any]:
    """The columns of a step with all fitted reviews, or those at these positions, as numpy arrays."""
    positions = np.arange(len(fitted)) if index is None else np.arange(len(fitted))[index]
    return steps_of(fitted, recipe, numpy_uniform).columns(positions, number)


def batch_of(fitted: FittedReviews, model: Any, index: Any = None, plain: bool = False) -> dict[str, Any]:
    """A step as tensors; `plain`: nothing is masked and no history is dropped."""
    from amzrec.model.keras2 import import_tensorflow

    tf: Any = import_tensorflow()
    recipe = model.recipe.replace(mask=0.0, history_dropout=0.0) if plain else model.recipe
    return tf.nest.map_structure(tf.constant, step_of(fitted, recipe, index))  # type: ignore[no-any-return]
