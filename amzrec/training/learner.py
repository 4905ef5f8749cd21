"""A model in training: epochs, snapshots of what it learned as plain arrays, checkpoints, and its watch on valid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from amzrec.answers.ranks import rank
from amzrec.arrays import Lists
from amzrec.config import TrainConfig
from amzrec.errors import AmzrecError, Progress
from amzrec.evaluation.metrics import MISS, draw_lists, list_ndcg
from amzrec.features.batches import COLUMNS, Fit, batch_size, bias_scale, list_order, packed, positions
from amzrec.model.keras2 import import_tensorflow
from amzrec.model.multitask import Forward, MultitaskModel
from amzrec.model.optimizer import LazyAdam
from amzrec.store.dataset import Dataset
from amzrec.training.coldstart import vectors_from_attributes

tf: Any = import_tensorflow()
BLOCK = 8192  # rows whose vectors are computed at a time

Array = np.ndarray[Any, Any]


class Learner:
    """A MultitaskModel with its optimizer and its rows."""

    def __init__(
        self, config: TrainConfig, fit: Fit, dataset: Dataset, scale: tuple[float, float], start: Array | None = None
    ) -> None:
        tf.keras.utils.set_random_seed(config.seed)
        tf.get_logger().setLevel("ERROR")  # variables of a task that is not trained have no gradient: no news
        self.config, self.fit = config, fit
        self.lists = config.list_size if config.rating_loss != "squared" and config.rating_weight > 0 else 0
        ids = dataset.customers["customer_id"], dataset.products["product_id"]
        self.model = MultitaskModel(config, fit, *ids, scale)
        if start is not None:
            self.model.start(start)
        if config.optimizer == "adam":
            optimizer = LazyAdam(config.rate(len(fit)), config.average)
        else:
            optimizer = tf.keras.optimizers.Adagrad(config.rate(len(fit)))
        self.optimizer = optimizer
        self.model.compile(optimizer=optimizer)
        optimizer.build(self.model.trainable_variables)
        self.answer = tf.function(self.model.call_tower, reduce_retracing=True, autograph=False)

    def steps(self) -> None:
        """Settle reviews per step and steps per epoch; AmzrecError where no list can be made."""
        rows = len(list_order(self.fit, np.random.default_rng(0), self.lists)) if self.lists else len(self.fit)
        if rows == 0:
            raise AmzrecError(
                f"--rating-loss {self.config.rating_loss} needs customers with {self.lists} reviews with stars; "
                "found none. Lower --list-size, or use --rating-loss squared"
            )
        size, self.number = batch_size(rows, self.config.most(rows), 1 if self.config.shared else 10)
        self.size = max(size // self.lists, 1) * self.lists if self.lists else size
        self.examples = self.size * self.number
        self.rows = examples(self.fit, self.size, self.number, lambda: self.seed, self.lists)

    def epoch(self, number: int, progress: Progress, label: str, logs: Path | None, phase: str) -> dict[str, float]:
        """One pass over the rows in an order drawn from (seed, phase, number); returns the mean losses."""
        self.seed = [self.config.seed, phase == "refit", number]
        callbacks: list[Any] = [Steps(progress, label, self.number, self.size)]
        if logs:
            callbacks.append(tf.keras.callbacks.TensorBoard(str(logs / phase), profile_batch=0))
        log = self.model.fit(
            self.rows,
            initial_epoch=number - 1,
            epochs=number,
            steps_per_epoch=self.number,
            verbose=0,
            callbacks=callbacks,
        ).history
        losses: dict[str, float] = {}
        if self.config.rating_weight > 0 and self.fit.rated.any():
            losses |= {
                "rating_loss": log["rating_loss"][0],
                "rating_constant": float(np.var(self.fit.value[self.fit.rated > 0])),
            }
        if self.config.retrieval_weight > 0:
            losses |= {
                "retrieval_loss": log["retrieval_loss"][0],
                "retrieval_constant": float(np.log(len(self.fit.candidates))),
            }
        return {name: round(float(value), 6) for name, value in losses.items()}

    def swap(self) -> None:
        """Exchange weights and averaged weights; twice is as before."""
        if isinstance(self.optimizer, LazyAdam):
            self.optimizer.swap(self.model.trainable_variables)

    def vectors(self, side: str, rows: Array, base: bool = False) -> Array:
        """Tower vectors [n, D] of rows ("query" or "candidate"), with full histories, or before them (`base`)."""
        parts = [
            self.answer(tf.constant(rows[i : i + BLOCK], tf.int32), side, base).numpy()
            for i in range(0, len(rows), BLOCK)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.config.dim), np.float32)

    def rate(self, customer: Array, product: Array, period: Array, x: Array, y: Array) -> Array:
        """Predicted stars of pairs [n] in their periods, not clipped, from their tower vectors."""
        model, c, p = self.model, tf.constant(customer), tf.constant(product)
        bias = model.query_tower.rating_bias(c), model.candidate_tower.rating_bias(p)
        batch = Forward(tf.constant(x), tf.constant(y), *bias, None, None, None, None)
        return np.asarray(model.rate(c, p, batch, self.fit.trend[period])) * self.fit.unit + self.fit.mean

    def retrieval(self, x: Array, y: Array, products: Array) -> tuple[Array, Array]:
        """Query vectors [n, Dr + 1] and candidate vectors [m, Dr + 1] whose inner product is the retrieval score."""
        dims, temperature = self.config.retrieval_dims, float(np.exp(self.model.log_temperature.numpy()))
        b = self.model.popularity.numpy()[products] + self.model.prior.numpy()[-1, products, None]
        query = np.concatenate([x[:, :dims] / temperature, np.ones((len(x), 1), np.float32)], axis=1)
        return query.astype(np.float32), np.concatenate([y[:, :dims], b], axis=1).astype(np.float32)

    def context(self, products: Array) -> Array:
        """[T, m] what a query's period adds to the scores of products: 0 in the last period, which b is of."""
        prior = self.model.prior.numpy()[:, products]
        return np.asarray(prior - prior[-1:], np.float32)

    def snapshot(self, task: str) -> dict[str, Array]:
        """What the task's answers need, as arrays with the names of run.ARRAYS, in stars; from averaged weights."""
        self.swap()
        model, fit, config = self.model, self.fit, self.config
        q, c = model.query_tower, model.candidate_tower
        customers, products = (np.arange(len(s.counts), dtype=np.int32) for s in (fit.customers, fit.products))
        x, y = self.vectors("query", customers), self.vectors("candidate", products)
        dims = slice(config.retrieval_dims) if task == "retrieval" else slice(config.rating_start, None)
        known = (fit.products.counts > 0)[:, None]
        empty = np.zeros((len(products), config.dim), np.float32)
        out = {
            f"{task}_query_base": self.vectors("query", customers, base=True)[:, dims],
            f"{task}_history_bag": np.where(known, c.bag.numpy() if q.full else empty, 0)[:, dims],
            f"{task}_history_residual": np.where(known, c.residual.numpy() if q.full else empty, 0)[:, dims] / fit.unit,
        }
        if task == "retrieval":
            query, candidate = self.retrieval(x, y, products)
            out |= {"retrieval_query": query, "retrieval_candidate": candidate, "candidates": fit.candidates}
            out |= {"context": self.context(products), "edges": fit.prior.edges if q.full else np.zeros(0, np.int64)}
            out |= {"temperature": np.exp(model.log_temperature.numpy()), "sequence": np.array(q.recent is not None)}
            out |= {"product_counts": fit.products.counts, "customer_counts": fit.customers.counts}
        else:
            out |= self.rating_part(x[:, dims], y[:, dims], customers, products)
        self.describe(out, f"{task}_candidate")
        self.swap()
        return {
            name: np.asarray(a, np.float32) if np.asarray(a).dtype.kind == "f" else np.asarray(a)
            for name, a in out.items()
        }

    def describe(self, out: dict[str, Array], name: str) -> None:
        """Candidates without reviews (`--catalogue all`) get the vectors that their attributes call for.

        What the biases of attributes say of the stars stands: it was learned beside all else, review by review.
        """
        side, tower = self.fit.products, self.model.candidate_tower
        new = self.fit.candidates[side.counts[self.fit.candidates] == 0]
        if not len(new) or not tower.full:
            return
        vectors, known = np.array(out[name]), np.zeros_like(out[name])
        if name == "rating_candidate":
            known[:, -1] = tower.attribute_bias(np.arange(len(side.counts), dtype=np.int32)).numpy() * self.fit.unit
        vectors[new] = (known + vectors_from_attributes(side, vectors - known, self.config.l2_rare))[new]
        out[name] = vectors

    def rating_part(self, x: Array, y: Array, customers: Array, products: Array) -> dict[str, Array]:
        """The rating arrays and head of run.Vectors, model units turned into stars."""
        model, fit, width = self.model, self.fit, x.shape[1]
        head, unit, out = model.rating_head, fit.unit, {}
        sides = (
            ("rating_query", model.query_tower, x, customers),
            ("rating_candidate", model.candidate_tower, y, products),
        )
        scale = head.scale.numpy() if head.full else np.zeros(2)
        for number, (name, tower, vectors, rows) in enumerate(sides):
            bias = tower.rating_bias(rows).numpy() * unit  # [R] stars
            additive = scale[number] * bias + (tower.offsets(rows).numpy() * unit if tower.full else 0.0)
            if tower is model.candidate_tower:
                additive = additive + fit.trend[-1] * unit  # as of now; rating_context tells other times
            out[name] = np.concatenate([vectors, bias[:, None], additive[:, None]], axis=1)
        out["rating_context"] = (fit.trend - fit.trend[-1]) * unit
        out["rating_weight"] = head.weight.numpy() * unit
        out["product_bias"] = fit.products.bias * unit
        kernels = [(layer.kernel.numpy(), layer.bias.numpy()) for layer in head.mlp]
        if kernels:
            first = kernels[0][0]
            if head.full:  # inputs x, bias, y, bias, x·y: the biases come in stars
                first = first.copy()
                first[[width, 2 * width + 1]] /= unit
            else:  # inputs x, y: the other places of the common form are zero
                wide = np.zeros((3 * width + 2, first.shape[1]), np.float32)
                wide[:width], wide[width + 1 : 2 * width + 1] = first[:width], first[width:]
                first = wide
            kernels[0] = (first, kernels[0][1])
            kernels[-1] = (kernels[-1][0] * unit, kernels[-1][1] * unit)
        for number, (kernel, bias) in enumerate(kernels):
            out |= {f"kernel_{number}": kernel, f"bias_{number}": bias}
        out["layers"] = np.array(len(kernels))
        out |= {"mean": np.array(fit.mean, np.float64) if fit.rated.any() else np.array(np.nan)}
        return out | {"low": np.array(fit.low), "high": np.array(fit.high), "a_customer": np.array(scale[0])}

    def save(self, prefix: Path) -> None:
        """Write weights and optimizer; OSError where that fails."""
        try:
            tf.train.Checkpoint(model=self.model, optimizer=self.optimizer).write(str(prefix))
        except tf.errors.OpError as error:
            raise OSError(error.message) from error

    def restore(self, prefix: Path) -> None:
        """Read them back; AmzrecError where they are missing, damaged or of another model."""
        checkpoint = tf.train.Checkpoint(model=self.model, optimizer=self.optimizer)
        try:
            checkpoint.read(str(prefix)).assert_existing_objects_matched()
        except (tf.errors.OpError, ValueError, AssertionError) as error:
            raise AmzrecError(
                f"the checkpoint {prefix} cannot be read ({str(error).splitlines()[0]}): begin again with --overwrite"
            ) from error


def examples(fit: Fit, size: int, steps: int, seed: Callable[[], list[int]], lists: int = 0) -> Any:
    """A tf.data.Dataset of the columns of `batches.positions`, drawn while the steps before are computed.

    `seed` is asked each time that the dataset is read: building one takes as long as a step of ML-100K.
    """
    table = packed(fit)
    rows = tf.data.Dataset.from_generator(
        lambda: (table.take(drawn, axis=0) for drawn in positions(fit, size, steps, seed(), lists)),
        output_signature=tf.TensorSpec([size, len(COLUMNS)], tf.int32),
    )
    options = tf.data.Options()
    options.autotune.enabled = False  # nothing to tune; its thread would be waited for, half a second an epoch
    return rows.map(columns_of).prefetch(2).with_options(options)


def columns_of(table: Any) -> dict[str, Any]:
    """The columns [B] of a packed batch."""
    return {
        name: tf.bitcast(row, tf.float32) if dtype == np.float32 else tf.cast(row, dtype)
        for (name, dtype), row in zip(COLUMNS.items(), tf.unstack(table, axis=1), strict=True)
    }


class Steps(tf.keras.callbacks.Callback):  # type: ignore[misc]
    """Tells the progress how many steps of the epoch are done, without reading a value from the device."""

    _supports_tf_logs = True

    def __init__(self, progress: Progress, label: str, total: int, size: int) -> None:
        super().__init__()
        self.progress, self.label, self.total, self.size = progress, label, total, size

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begin to count."""
        import time

        self.clock, self.begun = time.monotonic, time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """One more."""
        rate = (batch + 1) * self.size / max(self.clock() - self.begun, 1e-9)
        self.progress.step(self.label, batch + 1, self.total, f"{rate:,.0f} examples/s")


class Watch:
    """Judges a model on (a sample of) the valid reviews: RMSE of its stars, NDCG of each review's full rank.

    The rank is among the candidates that the customer has not reviewed in the fitted rows, as of the review's period;
    a product that is no candidate counts 0.
    """

    def __init__(self, dataset: Dataset, fit: Fit, most: int, seed: int) -> None:
        valid = dataset.valid
        if len(valid) > most:
            valid = valid.take(np.sort(np.random.default_rng([seed, 2]).choice(len(valid), most, replace=False)))
        self.fit = fit
        asked = np.stack([valid.customer, fit.prior.period(valid.timestamp)])
        (customer, self.period), owner = np.unique(asked, axis=1, return_inverse=True)  # G questions
        order = np.argsort(owner, kind="stable")
        self.valid, owner = valid.take(order), owner[order]
        self.customers, self.customer_of = np.unique(customer, return_inverse=True)
        position = np.full(len(fit.products.counts), -1)
        position[fit.candidates] = np.arange(len(fit.candidates))
        self.positives = Lists.of(owner, position[self.valid.product], len(customer))
        offsets, partners = fit.customers.history.offsets, fit.customers.history.items
        seen = [position[partners[offsets[c] : offsets[c + 1]]] for c in customer]
        lengths = [len(products) for products in seen]
        self.seen = Lists.of(np.repeat(np.arange(len(seen)), lengths), np.concatenate(seen), len(seen))
        self.rated = ~np.isnan(self.valid.stars)
        rated = np.flatnonzero(self.rated)
        self.lists = rated[draw_lists(self.valid.customer[rated], np.random.default_rng([seed, 3]))]  # [L, LIST]

    def figures(self, learner: Learner) -> dict[str, float]:
        """valid_rmse in stars and valid_ndcg, from averaged weights; NaN where there is nothing to measure."""
        learner.swap()
        fit, out = self.fit, {}
        products = np.union1d(fit.candidates, self.valid.product).astype(np.int32)
        x, y = learner.vectors("query", self.customers), learner.vectors("candidate", products)
        if learner.config.rating_weight > 0:
            own = np.searchsorted(self.customers, self.valid.customer), np.searchsorted(products, self.valid.product)
            period = fit.prior.period(self.valid.timestamp)
            stars = learner.rate(self.valid.customer, self.valid.product, period, x[own[0]], y[own[1]])
            error = (np.clip(stars, fit.low, fit.high) - self.valid.stars)[self.rated]
            out["valid_rmse"] = float(np.sqrt(np.mean(np.square(error)))) if len(error) else float("nan")
            if learner.lists:
                gains = list_ndcg(self.valid.stars[self.lists], stars[self.lists], fit.low, fit.high)
                out["valid_ndcg@5"] = float(np.nanmean(gains)) if len(gains) else float("nan")
        if learner.config.retrieval_weight > 0:
            place = np.searchsorted(products, fit.candidates)
            query, candidate = learner.retrieval(x, y[place], fit.candidates)
            out["valid_ndcg"] = self.ndcg(query[self.customer_of], candidate, learner.context(fit.candidates))
        learner.swap()
        return out

    def start_figure(self, learner: Learner) -> float:
        """valid_ndcg of an untrained learner."""
        x, y = learner.vectors("query", self.customers), learner.vectors("candidate", self.fit.candidates)
        query, candidate = learner.retrieval(x, y, self.fit.candidates)
        return self.ndcg(query[self.customer_of], candidate, learner.context(self.fit.candidates))

    def trend_gain(self) -> float:
        """How much the trend lowers the squared error of the biases on the rated valid reviews, in model units."""
        fit, valid = self.fit, self.valid
        value, scale = (valid.stars - fit.mean) / fit.unit, bias_scale(fit)
        trend = fit.trend[fit.prior.period(valid.timestamp)]
        rest = value - scale[0] * fit.customers.bias[valid.customer] - scale[1] * fit.products.bias[valid.product]
        without, with_it = (np.square(rest - t)[self.rated] for t in (0.0, trend))
        return float(without.mean() - with_it.mean()) if self.rated.any() else 0.0

    def prior_figure(self) -> float:
        """valid_ndcg of the prior alone, in the period of each review."""
        table = self.fit.prior.table[:, self.fit.candidates]
        nothing = np.zeros((len(self.customer_of), 1), np.float32), np.zeros((table.shape[1], 1), np.float32)
        return self.ndcg(*nothing, table)

    def ndcg(self, query: Array, candidate: Array, prior: Array) -> float:
        """Mean over the valid reviews of 1 / log2(1 + rank)."""
        questions = np.arange(len(query))
        ranks = rank(query, candidate, questions, self.positives, self.seen, 0, prior, self.period)
        above = ranks.above_unseen
        gains = np.where(above == MISS, 0.0, 1.0 / np.log2(np.minimum(above, MISS - 2) + 2.0))
        return float(gains.mean()) if len(gains) else float("nan")
