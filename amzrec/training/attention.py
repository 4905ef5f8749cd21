"""Attention in training: what reads the last products of customers in order, one pass over a customer at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from amzrec.arrays import Floats, Ints, Rows
from amzrec.config import Recipe
from amzrec.features.fitted import FittedReviews
from amzrec.features.windows import Windows
from amzrec.model.attention import AttentionModel, known_products
from amzrec.model.optimizer import LazyAdam
from amzrec.store.attention import Attention
from amzrec.training.learner import Learner, columns_dataset, tf
from amzrec.training.release import gradients_known
from amzrec.training.strategy import ONE

RATE, BETA = 0.01, 0.98  # of Adam; at .002 as good a model takes half as many epochs again (LOG.md, 2026-11-29)
AVERAGE = 0.99  # share of the old average of the weights that each step keeps


class AttentionLearner(Learner):
    """An AttentionModel with its optimizer and the reviews that it is fitted on; retrieval is all that it learns."""

    def __init__(self, recipe: Recipe, fitted: FittedReviews) -> None:
        self.gradients_before = gradients_known()
        tf.keras.utils.set_random_seed(recipe.seed)
        self.recipe = recipe.replace(rating_weight=0.0, retrieval_weight=1.0, memory=False, temperature=1.0)
        self.fitted, self.model, self.replicas = fitted, AttentionModel(self.recipe, fitted), ONE
        self.optimizer = LazyAdam(RATE, AVERAGE if recipe.average else 0.0, beta_2=BETA)
        self.model.compile(optimizer=self.optimizer)
        self.optimizer.build(self.model.trainable_variables)
        self.means = tf.Variable(tf.zeros([len(self.model.loss_means), 2]))
        self.kept = tf.train.Checkpoint(model=self.model, optimizer=self.optimizer, means=self.means)
        self.windows = Windows(fitted, self.recipe)
        self.epoch_plan = self.windows.plan
        self.epoch_number, self.epoch_seed, self.steps_done = 1, [recipe.seed, 0], 0  # until `epoch` says otherwise

    def prepare(self) -> None:
        """Set up what epochs read."""
        self.step_columns = columns_dataset(self.windows, self._numbered_batches)

    def _numbered_batches(self) -> Iterator[tuple[int, Ints]]:
        """Yield the steps of the present epoch: their numbers, counted through all epochs, and their windows [n]."""
        first = (self.epoch_number - 1) * self.epoch_plan.steps + self.steps_done
        batches = self.windows.batches([*self.epoch_seed, self.epoch_number])
        return enumerate(itertools.islice(batches, self.steps_done, None), first)

    def retrieval_queries(self, rows: Rows) -> Floats:
        """Return what is read of the last products of customer rows [n], [n, d]."""
        attention: Attention = self.model.encoder.attention()
        return attention.read(self.known_products(), self.fitted.timelines.take(rows))

    def retrieval_candidates(self, rows: Rows) -> Floats:
        """Return the vectors [n, d] of product rows [n]."""
        vectors: Floats = self.known_products()[rows]
        return vectors

    def close(self) -> None:
        """Let go of the model, its optimizer and its reviews, as Learner.close says."""
        vars(self.windows).clear()
        super().close()

    def known_products(self) -> Floats:
        """Return the vectors [N + 1, d] of products, 0 for those without reviews."""
        return known_products(self.model.encoder, self.fitted)
