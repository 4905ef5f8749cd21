"""MultitaskModel: two towers that retrieve and rate, on TensorFlow Recommenders' model, tasks and metrics."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from amzrec.config import BATCH, TrainConfig
from amzrec.features.batches import Fit
from amzrec.model.keras2 import import_tensorflow, import_tfrs
from amzrec.model.losses import candidate_bias, list_loss, softmax_loss
from amzrec.model.sparse import ends, taken
from amzrec.model.towers import Mixture, Recent, Tower, tf_keras

tf: Any = import_tensorflow()
tfrs: Any = import_tfrs()
BLOCK = 8192  # candidates at a time


class Forward(NamedTuple):
    """One batch through both towers, every vector without its own target review."""

    x: Any  # [B, D], or the rating dimensions alone where the retrieval loss asks per customer
    y: Any  # [B, D]
    query_bias: Any  # [B] shrunk, in model units
    candidate_bias: Any  # [B]
    candidate: Any  # [M, D] the unique candidates, with full histories
    rows: Any  # [M] their product rows
    place: Any  # [B] where each example's product stands among them
    penalty: Any  # scalar
    asked: Asked | None = None  # for the retrieval loss, where it asks per customer
    parts: Any = None  # there y for retrieval [B, Dr] and for the rating [B, K]


class Asked(NamedTuple):
    """The queries of a batch: each customer once per period, without any of its reviews in the batch."""

    x: Any  # [Q, Dr]
    customer: Any  # [Q] rows
    period: Any  # [Q]
    index: Any  # [B] which query each example belongs to
    order: Any  # [B] the examples, query by query
    splits: Any  # [Q + 1] where each query's examples begin in `order`


class Retrieval(tfrs.tasks.Retrieval):  # type: ignore[misc]
    """tfrs.tasks.Retrieval over the unique candidates of a batch, as a mean, without a [B, B] matrix.

    Equal to the original (divided by the batch size) where that is right: in-batch candidates, no correction.
    """

    def call(self, *arguments: Any) -> Any:
        """The arguments of `losses.softmax_loss`."""
        return softmax_loss(*arguments)


class RatingHead(tf_keras.layers.Layer):  # type: ignore[misc]
    """stars − mean = bias of both + Σ w·x·y + MLP([x, bias, y, bias, x·y]), in model units.

    With `--features ids` only an MLP on both embeddings, as the reference systems have it.
    """

    def __init__(self, config: TrainConfig, start: tuple[float, float]) -> None:
        super().__init__(name="rating_head")
        self.full, width = not config.shared, config.dim - config.rating_start
        init = tf_keras.initializers
        self.scale = self.add_weight(name="bias_scale", shape=(2,), initializer=init.Constant(start))
        self.weight = self.add_weight(
            name="dot_weight", shape=(width,), initializer=init.Constant(1.0 if self.full else 0.0)
        )
        self.mlp = []
        inputs = 3 * width + 2 if self.full else 2 * width
        widths = [*config.head, 1] if config.head or not self.full else []
        for number, units in enumerate(widths):
            last = number == len(widths) - 1
            kernel = init.Zeros() if last and self.full else init.GlorotUniform(seed=config.seed + 10 + number)
            kind = "mixed_bfloat16" if config.precision == "bfloat16" and not last else "float32"
            policy = tf_keras.mixed_precision.Policy(kind)  # mixed: its weights stay float32
            layer = tf_keras.layers.Dense(
                units, activation=None if last else "relu", kernel_initializer=kernel, dtype=policy
            )
            layer.build((None, inputs))
            self.mlp.append(layer)
            inputs = units

    def call(
        self, x: Any, y: Any, query_bias: Any, candidate_bias: Any, query_offset: Any, candidate_offset: Any
    ) -> Any:
        """Predicted (stars − mean) / unit, [B]; x and y are [B, K] rating dimensions, the rest [B]."""
        if not self.full:
            hidden = tf.concat([x, y], axis=1)
            for layer in self.mlp:
                hidden = layer(hidden)
            return hidden[:, 0]
        stars = self.scale[0] * query_bias + self.scale[1] * candidate_bias + query_offset + candidate_offset
        stars += tf.linalg.matvec(x * y, self.weight)
        if self.mlp:
            hidden = tf.concat([x, query_bias[:, None], y, candidate_bias[:, None], x * y], axis=1)
            for layer in self.mlp:
                hidden = layer(hidden)
            stars += hidden[:, 0]
        return stars


class MultitaskModel(tfrs.models.Model):  # type: ignore[misc]
    """Both tasks on one pair of towers, weighted; both losses are means, so weights mean the same at any batch size.

    `fit` are the rows it learns from, `customer_ids` and `product_ids` the vocabularies by row (row 0 unknown),
    `bias_scale` what the shrunk biases of customer and product are worth at the start. The retrieval score is
    q·v / T + b + prior[period of the query]: untrained it ranks as popularity at that time does.
    """

    def __init__(
        self,
        config: TrainConfig,
        fit: Fit,
        customer_ids: Any,
        product_ids: Any,
        bias_scale: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        super().__init__()
        self.config, self.rows = config, fit
        recent = Recent(fit.sequence, config) if config.history == "sequence" else None
        self.query_tower = Tower(fit.customers, customer_ids, config, "query", recent)
        self.candidate_tower = Tower(fit.products, product_ids, config, "candidate")
        self.rating_head = RatingHead(config, bias_scale)
        full = not config.shared
        size = len(fit.products.counts)
        self.popularity = self.add_weight(name="popularity", shape=(size, 1), initializer="zeros", trainable=full)
        self.prior = tf.constant(fit.prior.table if full else np.zeros((1, size), np.float32))
        temperature = config.temperature if full else 1.0
        self.log_temperature = self.add_weight(
            name="log_temperature",
            shape=(),
            initializer=tf_keras.initializers.Constant(np.log(temperature)),
            trainable=full,
        )
        share = np.maximum(fit.products.counts, 0.5) / max(len(fit), 1)
        self.log_share = tf.constant(np.log(share), tf.float32)
        active = np.maximum(fit.customers.counts, 1).astype(np.float32)
        self.customer_weight = tf.constant(active**-config.customer_power)
        self.candidates = tf.constant(fit.candidates, tf.int32)
        position = np.full(len(fit.products.counts), 0, np.int64)
        position[fit.candidates] = np.arange(len(fit.candidates))
        self.position = tf.constant(position)
        self.whole = config.negatives == "full" or (config.negatives == "auto" and len(fit.candidates) <= BATCH)
        self.candidate_prior = tf.gather(self.prior, self.candidates, axis=1) if self.whole else None  # [T, M]
        # one query for all reviews of a customer in a batch, without any of them: far fewer rows of logits
        self.grouped = full and not recent and config.retrieval_loss == "softmax"
        self.grouped = self.grouped and config.retrieval_weight > 0
        self.rating_task = tfrs.tasks.Ranking(loss=tf_keras.losses.MeanSquaredError())
        self.retrieval_task = Retrieval()
        self.rating_loss = tf_keras.metrics.Mean("rating_loss")
        self.retrieval_loss = tf_keras.metrics.Mean("retrieval_loss")

    def start(self, vectors: Any) -> None:
        """Let the retrieval dimensions of products, and of what they add to histories, start at vectors [R + 1, Dr]."""
        for table in (self.candidate_tower.embedding, self.candidate_tower.bag):
            value = table.numpy()
            known = vectors.any(axis=1)
            value[known, : self.config.retrieval_dims] = vectors[known]
            table.assign(value)

    def call(self, inputs: dict[str, Any]) -> tuple[Any, Any]:
        """Query and candidate vectors [B, D] of rows or raw ids, with full histories."""
        query = self.query_tower(inputs["customer"], self.candidate_tower)
        return query, self.candidate_tower(inputs["product"], self.query_tower)

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def compute_loss(self, inputs: dict[str, Any], training: bool = False) -> Any:
        """Weighted sum of the two mean losses and the penalties on the vectors of the batch; a scalar."""
        batch = self.forward(inputs, training)
        loss = batch.penalty
        if self.config.rating_weight > 0:
            rating = self.rate_batch(inputs, batch)
            self.rating_loss.update_state(rating)
            loss += self.config.rating_weight * rating
        if self.config.retrieval_weight > 0:
            retrieval = self.retrieve_batch(inputs, batch)
            self.retrieval_loss.update_state(retrieval)
            loss += self.config.retrieval_weight * retrieval
            for metric in () if training else self.retrieval_task.factorized_metrics:
                vectors = self.query_vectors(inputs, batch.x), self.candidate_vectors(inputs["product"], batch.y)
                metric.update_state(*vectors, true_candidate_ids=inputs["product"])
        return loss

    def measure_top_k(self, ks: tuple[int, ...] = (1, 5, 10, 50, 100)) -> None:
        """Let `evaluate` report FactorizedTopK, by ids, over the unique candidates with the vectors they have now.

        For reviews that are not fitted (`batches.held_out`); call it again after more training.
        """
        rows = self.candidates.numpy()
        if len(np.unique(rows)) < len(rows):
            raise ValueError("candidates must be unique: a product listed twice takes two of the k places")
        table = tf.data.Dataset.from_tensor_slices(rows).batch(BLOCK)
        vectors = [(some, self.candidate_vectors(some, self.call_tower(some, "candidate"))) for some in table]
        table = tf.data.Dataset.from_tensor_slices(tuple(tf.concat(part, 0) for part in zip(*vectors, strict=True)))
        index = tfrs.layers.factorized_top_k.Streaming(k=max(ks)).index_from_dataset(table.batch(BLOCK))
        # a list: TFRS drops a metric that is set alone
        self.retrieval_task.factorized_metrics = [tfrs.metrics.FactorizedTopK(index, ks)]
        self.test_function = None  # to be traced again, with these vectors

    def query_vectors(self, inputs: dict[str, Any], x: Any) -> Any:
        """[B, Dr + 1 + T] whose inner product with `candidate_vectors` is the retrieval score in the query's period."""
        query = x[:, : self.config.retrieval_dims] / tf.exp(self.log_temperature)
        period = tf.zeros_like(inputs["period"]) if self.config.shared else inputs["period"]
        return tf.concat([query, tf.ones_like(x[:, :1]), tf.one_hot(period, len(self.prior))], axis=1)

    def candidate_vectors(self, rows: Any, y: Any) -> Any:
        """[n, Dr + 1 + T] of product rows: their retrieval dimensions, b, and the prior by period."""
        prior = tf.transpose(tf.gather(self.prior, rows, axis=1))
        return tf.concat([y[:, : self.config.retrieval_dims], tf.gather(self.popularity, rows), prior], axis=1)

    def forward(self, inputs: dict[str, Any], training: bool) -> Forward:
        """The batch's vectors; in training, some history is dropped and some customers are made unknown."""
        customer, product = inputs["customer"], inputs["product"]
        if self.whole and self.config.retrieval_weight > 0 and training:
            rows, place = self.candidates, tf.gather(self.position, product)
        elif self.whole and self.config.retrieval_weight > 0:  # a product that is no candidate may be asked about
            rows, place = tf.unique(tf.concat([self.candidates, product], 0), out_idx=tf.int64)
            place = place[len(self.candidates) :]
        else:
            rows, place = tf.unique(product, out_idx=tf.int64)
        q, c, config = self.query_tower, self.candidate_tower, self.config
        zero = tf.zeros_like(inputs["value"])
        seed = tf.cast(self.optimizer.iterations, tf.int64) * 2 + config.seed * 1_000_003 if training else None
        draw = tf.random.stateless_uniform([tf.size(customer)], tf.stack([seed, 1])) if training else zero + 1.0
        if config.shared:
            masked = tf.where(draw < config.mask, 0, customer)
            return Forward(q(masked), c(product), zero, zero, c(rows), rows, place, 0.0)
        # what a row is worth is computed once per row, and looked up for its examples: a batch has far more of these
        unique, index = tf.unique(customer)
        given, back = c.entries(rows), q.entries(unique)
        target = given.target(place, inputs["value"], inputs["rated"], inputs["customer_edge"])
        weight, words = q.counted(target, seed), q.words(unique)
        nobody = tf.gather(q.embedding, [0])
        known = q.ids(unique) + words
        # as known, by history alone, not at all
        mixture = Mixture(tf.concat([known, nobody + words, nobody], axis=0), q.sums(unique, c, seed), given)
        asked = None
        if training and self.grouped:  # each customer's query reads the retrieval dimensions, each review's the others
            retrieval, mixture = mixture.ends(config.retrieval_dims, config.rating_start)
            out = tf.random.stateless_uniform([tf.size(unique)], tf.stack([seed, 2]))
            row, there = self.masked(tf.range(tf.size(unique)), tf.size(unique), out)
            bias = q.bias_without(unique, target, index)
            vectors = retrieval.all_but(row, index, target, weight, bias, there)
            asked = questions(vectors, unique, index, inputs["period"], len(self.prior))
        row, there = self.masked(index, tf.size(unique), draw)
        query_bias = q.bias_without(customer, target)
        x, query_bias = mixture.each(row, index, target, weight, query_bias, there), query_bias * there
        if q.recent:
            x = x + q.recent(customer, c.bag, inputs["turn"]) * there[:, None]
        seed = None if seed is None else seed + 1
        sums = c.sums(rows, q, seed)
        catalogue = c.base(rows)
        candidate = c.compose(catalogue, sums, c.bias(rows))
        other = back.target(index, inputs["value"], inputs["rated"], inputs["product_edge"])
        candidate_bias = c.bias_without(product, other)
        y = Mixture(catalogue, sums, back).each(place, place, other, c.counted(other, seed), candidate_bias)
        times = tf.math.unsorted_segment_sum(zero + 1.0, index, tf.size(unique))
        seen = tf.math.unsorted_segment_sum(zero + 1.0, place, tf.size(rows))
        ids = q.penalty(unique, times, known) + c.penalty(rows, seen, catalogue)
        history = c.penalty(rows, seen, given.bag, given.residual) + q.penalty(unique, times, back.bag, back.residual)
        penalty = config.l2 * ids + config.l2_history * history
        if config.rating_weight > 0:
            penalty += q.offset_penalty(customer) + c.offset_penalty(product)
        parts = ends(y, config.retrieval_dims, config.rating_start) if asked else None
        return Forward(x, y, query_bias, candidate_bias, candidate, rows, place, penalty, asked, parts)

    def masked(self, index: Any, size: Any, draw: Any) -> tuple[Any, Any]:
        """Rows of the base of `size` customers as they are known, by history alone, and nobody; 1 where not nobody.

        `index` [n] are the customers; those whose draw is below `mask` are known by history alone or not at all.
        """
        mask = self.config.mask
        unknown = draw < mask / 2
        row = tf.where(unknown, 2 * size, index + tf.where(draw < mask, size, 0))
        return row, 1.0 - tf.cast(unknown, tf.float32)

    def rate_batch(self, inputs: dict[str, Any], batch: Forward) -> Any:
        """Mean squared error over the rated rows of the batch, in model units, or the list loss."""
        predicted = self.rate(inputs["customer"], inputs["product"], batch, inputs["own_trend"])
        if self.config.rating_loss != "squared":
            shape = [-1, self.config.list_size]
            return list_loss(self.config.rating_loss, tf.reshape(inputs["value"], shape), tf.reshape(predicted, shape))
        weight = inputs["rated"] / tf.maximum(tf.reduce_mean(inputs["rated"]), 1e-9)
        return self.rating_task(labels=inputs["value"][:, None], predictions=predicted[:, None], sample_weight=weight)

    def rate(self, customer: Any, product: Any, batch: Forward, trend: Any) -> Any:
        """Predicted (stars − mean) / unit of the pairs, [B]; `trend` [B] is what their periods add to the head."""
        start, q, c = self.config.rating_start, self.query_tower, self.candidate_tower
        zero = tf.zeros_like(batch.query_bias)
        offsets = (zero, zero) if self.config.shared else (q.offsets(customer), c.offsets(product))
        x, y = (batch.x, batch.parts[1]) if batch.parts else (batch.x[:, start:], batch.y[:, start:])
        return self.rating_head(x, y, batch.query_bias, batch.candidate_bias, *offsets) + trend

    def retrieve_batch(self, inputs: dict[str, Any], batch: Forward) -> Any:
        """Mean cross-entropy of the batch's reviews against the batch's unique candidates or the whole catalogue."""
        dims, rows, place = self.config.retrieval_dims, batch.rows, batch.place
        if self.config.retrieval_loss == "dot":
            label = (inputs["value"] * self.rows.unit + self.rows.mean - self.rows.low) / (
                self.rows.high - self.rows.low
            )
            dot = tf.reduce_sum(batch.x[:, :dims] * batch.y[:, :dims], 1)
            return tf.reduce_sum(tf.square(dot - label) * inputs["rated"]) / tf.maximum(
                tf.reduce_sum(inputs["rated"]), 1
            )
        customer, period, asked = inputs["customer"], inputs["period"], batch.asked
        y = batch.parts[0] if batch.parts else batch.y[:, :dims]
        if asked:
            customer, period = asked.customer, asked.period
        query = (asked.x if asked else batch.x[:, :dims]) / tf.exp(self.log_temperature)
        counts = log_q = None
        if not self.whole:
            counts = tf.math.unsorted_segment_sum(tf.ones_like(place, tf.float32), place, tf.size(rows))
            log_q = tf.gather(self.log_share, rows) if self.config.log_q else None
        bias = candidate_bias(tf.gather(self.popularity, rows)[:, 0], log_q, counts)
        own = taken(query, asked.index) if asked else query
        positive = tf.reduce_sum(own * y, 1) + tf.gather(bias, place)
        prior = self.candidate_prior if rows is self.candidates else tf.gather(self.prior, rows, axis=1)
        if self.config.shared:
            period = tf.zeros_like(period)
        else:
            positive += inputs["own_prior"]
        hidden = self.other_positives(customer, rows) if self.config.masked else None
        hardest = self.config.hard_negatives or None
        weight = tf.gather(self.customer_weight, inputs["customer"]) if self.config.customer_power else None
        splits = None
        if asked:
            splits, positive, place = asked.splits, tf.gather(positive, asked.order), tf.gather(place, asked.order)
            weight = None if weight is None else tf.gather(weight, asked.order)
        return self.retrieval_task(
            query,
            batch.candidate[:, :dims],
            bias,
            positive,
            place,
            prior,
            period,
            hidden,
            hardest,
            splits,
            weight,
            self.config.precision == "bfloat16",
        )

    def other_positives(self, customer: Any, rows: Any) -> tuple[Any, Any]:
        """Splits [B + 1] and positions [E] among `rows` of the products that each customer reviewed."""
        size = tf.size(self.position)
        where = tf.tensor_scatter_nd_update(tf.fill([size], -1), rows[:, None], tf.range(tf.size(rows)))
        segment, position = self.query_tower.history.of(customer)
        place = tf.gather(where, tf.gather(self.query_tower.history.items, position))
        segment, place = tf.boolean_mask(segment, place >= 0), tf.boolean_mask(place, place >= 0)
        counts = tf.math.bincount(tf.cast(segment, tf.int32), minlength=tf.size(customer), maxlength=tf.size(customer))
        return tf.pad(tf.cumsum(counts), [[1, 0]]), place

    def call_tower(self, rows: Any, side: str, base: bool = False) -> Any:
        """Vectors [n, D] of rows on one side ("query" or "candidate"), or what they are before their histories."""
        q, c = self.query_tower, self.candidate_tower
        tower, partner = (q, c) if side == "query" else (c, q)
        return tower.base(rows) if base else tower(rows, partner)


def questions(x: Any, customer: Any, index: Any, period: Any, periods: int) -> Asked:
    """The queries of examples [B] with vectors x [U, Dr] of their customers [U], index [B] saying whose each one is."""
    key, query = tf.unique(tf.cast(index, tf.int64) * periods + tf.cast(period, tf.int64))
    whose = tf.cast(key // periods, tf.int32)
    splits = tf.pad(tf.cumsum(tf.math.bincount(query, minlength=tf.size(key))), [[1, 0]])
    order, when = tf.argsort(query, stable=True), tf.cast(key % periods, period.dtype)
    return Asked(tf.gather(x, whose), tf.gather(customer, whose), when, query, order, splits)
