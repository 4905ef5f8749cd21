"""MultitaskModel: two towers that retrieve and rate, on the model and the tasks of TensorFlow Recommenders."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from amzrec.arrays import Floats
from amzrec.config import Recipe
from amzrec.features.columns import RetrievalColumns, ReviewColumns, ShareWeights, StepColumns
from amzrec.features.fitted import FittedReviews
from amzrec.model.encoders import Encoded, HistoryEncoder, IdEncoder, OrderEncoder
from amzrec.model.head import BiasedHead, PlainHead
from amzrec.model.keras2 import Tensor, import_tfrs
from amzrec.model.losses import list_loss
from amzrec.model.softmax import Logits, RetrievalBatch, softmax_loss
from amzrec.model.sparse import dots, multiply, take
from amzrec.model.towers import tf, tf_keras

tfrs: Any = import_tfrs()


class MeanSquaredRating(tfrs.tasks.Ranking):  # type: ignore[misc]
    """tfrs.tasks.Ranking with a mean squared error over the reviews with stars, in as few operations as possible."""

    def call(self, value: Tensor, predicted: Tensor, rated: Tensor) -> Tensor:
        """Return the mean of (value − predicted)² over the reviews [B] whose `rated` is 1; 0 where there are none."""

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def mean(predicted: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
            error = predicted - value
            share = error * (rated / tf.maximum(tf.reduce_sum(rated), 1.0))
            return tf.reduce_sum(error * share), lambda upstream: (2.0 * upstream) * share

        return mean(predicted)


class RatingTask:
    """The task of predicting stars: a mean squared error, or a loss over lists of one customer's reviews."""

    def __init__(self, recipe: Recipe, head: BiasedHead | PlainHead) -> None:
        self.heads, self.head = recipe.heads, head
        self.weight = recipe.rating_weight * recipe.heads  # the loss is the mean of the heads, and each counts
        self.kind, self.list_size = recipe.rating_loss, recipe.reviews_together
        self.task = MeanSquaredRating()
        self.metric = tf_keras.metrics.Mean("rating_loss")

    def loss(self, columns: StepColumns, encoded: Encoded) -> Tensor:
        """Return the mean loss of the reviews of the step with stars, in model units, of all heads; a scalar."""
        reviews: ReviewColumns = columns["reviews"]
        predicted = tf.add_n([self.head.predictions(encoded.pairs), self.of_each(reviews.trend_without_self)])
        value = self.of_each(reviews.value)
        if self.list_size > 1:
            shape = [-1, self.list_size]
            return list_loss(self.kind, tf.reshape(value, shape), tf.reshape(predicted, shape))
        return self.task(value, predicted, self.of_each(reviews.rated))

    def of_each(self, values: Tensor) -> Tensor:
        """Return values [B] for each of H heads, one head after the other, [H · B]."""
        return values if self.heads == 1 else tf.concat([values] * self.heads, 0)


class SoftmaxRetrieval(tfrs.tasks.Retrieval):  # type: ignore[misc]
    """tfrs.tasks.Retrieval over distinct candidates, as a mean, and without keeping a [B, B] matrix of logits.

    It equals the original divided by the batch size where the original is right: with the products of the batch as
    candidates and without a correction for popular ones.
    """

    def call(self, logits: Logits, batch: RetrievalBatch, hardest: int | None, half: bool) -> Tensor:
        """Return the mean softmax loss of a batch, a scalar; the arguments are those of `softmax.softmax_loss`."""
        return softmax_loss(logits, batch, hardest, half)


class RetrievalTask:
    """The task of finding the product of a review among the candidates.

    The score of a product is q · v / T + b + its log share in the period of the query, where T is the temperature and
    b a learned number of the product. Untrained, products rank about as popularity in that period does.
    """

    def __init__(self, model: MultitaskModel, recipe: Recipe, fitted: FittedReviews) -> None:
        """Add the weights b and log T to `model`; they are learned unless the towers are of ids alone."""
        self.recipe, self.weight, self.scale = recipe, recipe.retrieval_weight, fitted.scale
        self.learned = learned = recipe.features != "ids"
        size = len(fitted.products)
        self.popularity = model.add_weight(name="popularity", shape=(size, 1), initializer="zeros", trainable=learned)
        start = tf_keras.initializers.Constant(np.log(recipe.temperature if learned else 1.0))
        moved = learned and not recipe.reads_order  # there it sank to 0.05, and valid fell (LOG.md, 2026-11-28)
        self.log_temperature = model.add_weight(name="log_temperature", shape=(), initializer=start, trainable=moved)
        self.log_share = tf.constant(fitted.popularity.log_share)  # [T, N + 1]
        whole = recipe.negatives == "full"
        self.catalogue_share = tf.gather(self.log_share, fitted.candidates, axis=1) if whole else None  # [T, M]
        self.task = SoftmaxRetrieval()
        self.metric = tf_keras.metrics.Mean("retrieval_loss")

    def loss(self, columns: StepColumns, encoded: Encoded) -> Tensor:
        """Return the mean loss of the reviews of the step, a scalar.

        It is the cross-entropy of each review's product among the candidates, or, as the recipe says, the squared
        error of the dot product.
        """
        if self.recipe.retrieval_loss == "dot":
            return self.dot_loss(columns["reviews"], encoded)
        asked: RetrievalColumns = columns["retrieval"]
        queries, bias = encoded.queries, asked.bias
        if self.learned:
            queries /= tf.exp(self.log_temperature)
            bias += tf.squeeze(take(self.popularity, asked.rows), 1)
        prior = tf.gather(self.log_share, asked.rows, axis=1) if self.catalogue_share is None else self.catalogue_share
        shared = asked.shared
        dot = dots(multiply(shared.vector_of_review, queries) if shared else queries, encoded.positives)
        logit = tf.add_n([dot, self.own_bias(asked, bias), asked.log_share_without_self])
        weight = asked.weight
        if shared:
            queries = tf.gather(queries, shared.vector_of_query)
            logit, weight = tf.gather(logit, shared.order), tf.gather(weight, shared.order)
        if asked.votes:
            logit += asked.votes.of_target
        logits = Logits(queries, encoded.candidates, bias, prior, asked.period, asked.votes or None)
        batch = RetrievalBatch(asked.positives, logit, weight, asked.hidden or None)
        return self.task(logits, batch, self.recipe.hard_negatives or None, self.recipe.precision == "bfloat16")

    def own_bias(self, asked: RetrievalColumns, bias: Tensor) -> Tensor:
        """Return the b of each review's product [B]; `bias` [M] is that of the candidates."""
        if not asked.own:
            return tf.gather(bias, asked.target)
        return asked.own.bias + tf.squeeze(take(self.popularity, asked.own.rows), 1) if self.learned else asked.own.bias

    def dot_loss(self, reviews: ReviewColumns, encoded: Encoded) -> Tensor:
        """Return the mean squared error of q · v against the stars as 0 to 1, over the reviews with stars."""
        dot = dots(encoded.queries, encoded.positives)
        error = tf.square(dot - self.scale.to_share(reviews.value)) * reviews.rated
        return tf.reduce_sum(error) / tf.maximum(tf.reduce_sum(reviews.rated), 1)


class MultitaskModel(tfrs.models.Model):  # type: ignore[misc]
    """Both tasks on one pair of towers; the loss is the weighted sum of two means, whatever the batch size is.

    It learns from the columns that `features.steps` makes of fitted reviews.
    """

    def __init__(
        self, recipe: Recipe, fitted: FittedReviews, customer_ids: Iterable[object], product_ids: Iterable[object]
    ) -> None:
        """`customer_ids` and `product_ids` are the vocabularies, one id for each row; row 0 is the unknown one."""
        super().__init__()
        self.recipe = recipe
        parts = (fitted, recipe, customer_ids, product_ids)
        self.rating_head: BiasedHead | PlainHead
        if recipe.features == "ids":
            self.encoder, self.rating_head = IdEncoder(*parts), PlainHead(recipe)
        else:
            kind = OrderEncoder if recipe.reads_order else HistoryEncoder
            self.encoder, self.rating_head = kind(*parts), BiasedHead(recipe, fitted.bias_scale())
        self.rating, self.retrieval = RatingTask(recipe, self.rating_head), RetrievalTask(self, recipe, fitted)
        self.tasks = [getattr(self, task) for task in recipe.tasks]
        # no part of a checkpoint: the value of a metric that replicas share can only be read by all of them together
        self.loss_means = self._no_dependency([task.metric for task in self.tasks])

    @property
    def metrics(self) -> list[Any]:
        """Return what Keras resets at the beginning of each epoch."""
        means: list[Any] = self.loss_means
        return means

    def start_at(self, vectors: Floats) -> None:
        """Set where training starts: the retrieval dimensions of products, and of what they add to histories.

        `vectors` [N + 1, Dr] are their values; a product whose vector is 0 keeps its random start.
        """
        rows = self.encoder.candidate_tower.profiles.vector_row
        for table in (self.encoder.candidate_tower.embedding, self.encoder.candidate_tower.bag):
            value = table.numpy()
            known = vectors.any(axis=1) & (rows > 0)
            value[rows[known], : self.recipe.retrieval_dims] = vectors[known]
            table.assign(value)

    def call(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return query and candidate vectors [B, D] from which questions are answered; outside of graphs only.

        `inputs` are "customer" and "product": rows [B], or ids as strings [B].
        """
        encoder = self.encoder
        queries = encoder.queries(encoder.query_tower.rows_of(inputs["customer"]))
        return queries, encoder.candidates(encoder.candidate_tower.rows_of(inputs["product"]))

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def compute_loss(self, inputs: StepColumns, training: bool = False) -> Tensor:
        """Return the weighted sum of the mean losses, and the penalties on the vectors of the step; a scalar."""
        encoded = self.encoder.encode(inputs)
        if "weights" in inputs:
            return self.compute_share(inputs["weights"], [task.loss(inputs, encoded) for task in self.tasks], encoded)
        loss = encoded.penalty
        for task in self.tasks:
            value = task.loss(inputs, encoded)
            task.metric.update_state(value)
            loss += task.weight * value
        return loss

    def compute_share(self, weights: ShareWeights, values: list[Tensor], encoded: Encoded) -> Tensor:
        """Return what a replica adds to the loss of a step, of which it has a share; a scalar.

        `values` are the losses of the share. Every replica counts those of the whole step in its metrics.
        """
        shares = [tf.squeeze(getattr(weights, task), 0) for task in self.recipe.tasks]
        values = [value * share for value, share in zip(values, shares, strict=True)]
        whole = tf.distribute.get_replica_context().all_reduce("SUM", tf.stack(values))
        for task, value in zip(self.tasks, tf.unstack(whole), strict=True):
            task.metric.update_state(value)
        penalty = encoded.penalty * tf.squeeze(weights.penalty, 0)
        return penalty + tf.add_n([task.weight * value for task, value in zip(self.tasks, values, strict=True)])
