"""MultitaskModel: two towers that retrieve and rate, on TensorFlow Recommenders' model and tasks."""

from __future__ import annotations

from typing import Any

import numpy as np

from amzrec.arrays import Floats
from amzrec.config import Recipe
from amzrec.features.columns import RetrievalColumns, ReviewColumns
from amzrec.features.fitted import Fitted
from amzrec.model.encoders import Encoded, HistoryEncoder, IdEncoder, RecentBagEncoder, SequenceEncoder
from amzrec.model.head import BiasedHead, PlainHead
from amzrec.model.keras2 import import_tfrs
from amzrec.model.losses import list_loss
from amzrec.model.softmax import Logits, RetrievalBatch, softmax_loss
from amzrec.model.sparse import multiply, take
from amzrec.model.towers import Tensor, tf, tf_keras

tfrs: Any = import_tfrs()


class MeanSquaredRating(tfrs.tasks.Ranking):  # type: ignore[misc]
    """tfrs.tasks.Ranking with a mean squared error over the reviews with stars, as few operations."""

    def call(self, value: Tensor, predicted: Tensor, rated: Tensor) -> Tensor:
        """Mean of (value − predicted)² over the reviews [B] where `rated` is 1; 0 where there are none."""

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def mean(predicted: Tensor) -> Any:
            error = predicted - value
            share = error * (rated / tf.maximum(tf.reduce_sum(rated), 1.0))
            return tf.reduce_sum(error * share), lambda upstream: (2.0 * upstream) * share

        return mean(predicted)


class Rating:
    """The task of predicting stars: mean squared error, or a loss over the lists of one customer."""

    def __init__(self, recipe: Recipe, head: BiasedHead | PlainHead) -> None:
        self.weight, self.kind, self.lists, self.head = recipe.rating_weight, recipe.rating_loss, recipe.lists, head
        self.task = MeanSquaredRating()
        self.metric = tf_keras.metrics.Mean("rating_loss")

    def loss(self, columns: dict[str, Any], encoded: Encoded) -> Tensor:
        """The mean over the rated reviews of the batch, in model units."""
        reviews: ReviewColumns = columns["reviews"]
        predicted = self.head(encoded.pairs) + reviews.own_trend
        if self.lists > 1:
            shape = [-1, self.lists]
            return list_loss(self.kind, tf.reshape(reviews.value, shape), tf.reshape(predicted, shape))
        return self.task(reviews.value, predicted, reviews.rated)


class SoftmaxRetrieval(tfrs.tasks.Retrieval):  # type: ignore[misc]
    """tfrs.tasks.Retrieval over the unique candidates of a batch, as a mean, without a [B, B] matrix.

    Equal to the original (divided by the batch size) where that is right: in-batch candidates, no correction.
    """

    def call(self, logits: Logits, batch: RetrievalBatch, hardest: int | None, half: bool) -> Tensor:
        """See `softmax.softmax_loss`."""
        return softmax_loss(logits, batch, hardest, half)


class Retrieval:
    """The task of finding the product: score = q · v / T + b + log share in the period of the query.

    Untrained it ranks as popularity at that time does.
    """

    def __init__(self, model: Any, recipe: Recipe, fitted: Fitted) -> None:
        """`model` is the Keras model that the weights belong to; only softmax over scores learns b and T."""
        self.recipe, self.weight, self.scale = recipe, recipe.retrieval_weight, fitted.scale
        size, learned = len(fitted.products), recipe.features != "ids"
        self.popularity = model.add_weight(name="popularity", shape=(size, 1), initializer="zeros", trainable=learned)
        start = tf_keras.initializers.Constant(np.log(recipe.temperature if learned else 1.0))
        self.log_temperature = model.add_weight(name="log_temperature", shape=(), initializer=start, trainable=learned)
        self.log_share = tf.constant(fitted.popularity.log_share)  # [T, N + 1]
        whole = recipe.negatives == "full"
        self.catalogue_share = tf.gather(self.log_share, fitted.candidates, axis=1) if whole else None  # [T, M]
        self.task = SoftmaxRetrieval()
        self.metric = tf_keras.metrics.Mean("retrieval_loss")

    def loss(self, columns: dict[str, Any], encoded: Encoded) -> Tensor:
        """Mean cross-entropy of the reviews against the candidates, or the squared error of the dot product."""
        if self.recipe.retrieval_loss == "dot":
            return self.dot_loss(columns["reviews"], encoded)
        asked: RetrievalColumns = columns["retrieval"]
        queries = encoded.queries / tf.exp(self.log_temperature)
        bias = tf.squeeze(take(self.popularity, asked.rows), 1) + asked.bias
        own = multiply(asked.own_query, queries)
        positive = tf.reduce_sum(own * encoded.positives, 1) + tf.gather(bias, asked.place) + asked.own_log_share
        prior = tf.gather(self.log_share, asked.rows, axis=1) if self.catalogue_share is None else self.catalogue_share
        logits = Logits(tf.gather(queries, asked.whose), encoded.candidates, bias, prior, asked.period)
        logit, weight = tf.gather(positive, asked.order), tf.gather(asked.weight, asked.order)
        batch = RetrievalBatch(asked.positives, logit, weight, asked.hidden)
        return self.task(logits, batch, self.recipe.hard_negatives or None, self.recipe.precision == "bfloat16")

    def dot_loss(self, reviews: ReviewColumns, encoded: Encoded) -> Tensor:
        """Mean squared error of q · v against the stars as 0 to 1, over the rated reviews."""
        dot = tf.reduce_sum(encoded.queries * encoded.positives, 1)
        error = tf.square(dot - self.scale.to_share(reviews.value)) * reviews.rated
        return tf.reduce_sum(error) / tf.maximum(tf.reduce_sum(reviews.rated), 1)


class MultitaskModel(tfrs.models.Model):  # type: ignore[misc]
    """Both tasks on one pair of towers, weighted; both losses are means, so weights mean the same at any batch size.

    It learns from the columns that `features.steps` makes of fitted reviews.
    """

    def __init__(self, recipe: Recipe, fitted: Fitted, customer_ids: Any, product_ids: Any) -> None:
        """`customer_ids` and `product_ids` are the vocabularies by row; row 0 is the unknown one."""
        super().__init__()
        self.recipe = recipe
        parts = (fitted, recipe, customer_ids, product_ids)
        self.rating_head: BiasedHead | PlainHead
        if recipe.features == "ids":
            self.encoder, self.rating_head = IdEncoder(*parts), PlainHead(recipe)
        else:
            kinds = {"bag": HistoryEncoder, "recent": RecentBagEncoder, "sequence": SequenceEncoder}
            kind = kinds[recipe.history]
            self.encoder, self.rating_head = kind(*parts), BiasedHead(recipe, fitted.bias_scale())
        self.rating, self.retrieval = Rating(recipe, self.rating_head), Retrieval(self, recipe, fitted)
        self.tasks = [getattr(self, task) for task in recipe.tasks]
        self.means = [task.metric for task in self.tasks]  # Keras resets each epoch what it finds in an attribute

    def start(self, vectors: Floats) -> None:
        """Let the retrieval dimensions of products, and of what they add to histories, start at vectors [R + 1, Dr]."""
        for table in (self.encoder.candidate_tower.embedding, self.encoder.candidate_tower.bag):
            value = table.numpy()
            known = vectors.any(axis=1)
            value[known, : self.recipe.retrieval_dims] = vectors[known]
            table.assign(value)

    def call(self, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Query and candidate vectors [B, D] of rows or raw ids, as they are answered from; outside of graphs only."""
        encoder = self.encoder
        queries = encoder.queries(encoder.query_tower.rows_of(inputs["customer"]))
        return queries, encoder.candidates(encoder.candidate_tower.rows_of(inputs["product"]))

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def compute_loss(self, inputs: dict[str, Any], training: bool = False) -> Tensor:
        """Weighted sum of the two mean losses, and the penalties on the vectors of the batch; a scalar."""
        encoded = self.encoder.encode(inputs)
        loss = encoded.penalty
        for task in self.tasks:
            value = task.loss(inputs, encoded)
            task.metric.update_state(value)
            loss += task.weight * value
        return loss
