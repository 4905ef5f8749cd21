"""A model in training: its optimizer, its reviews, epochs, and the vectors that it would answer from."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from amzrec.arrays import Array, Floats, Ints, Rows
from amzrec.config import Recipe
from amzrec.errors import AmzrecError, Progress
from amzrec.features.batches import plan, positions
from amzrec.features.fitted import Fitted
from amzrec.features.steps import HistorySteps, IdSteps, Steps
from amzrec.model.head import Pairs
from amzrec.model.keras2 import import_tensorflow
from amzrec.model.multitask import MultitaskModel
from amzrec.model.optimizer import LazyAdam
from amzrec.store.dataset import Dataset

tf: Any = import_tensorflow()
BLOCK = 8192  # rows whose vectors are computed at a time


class Learner:
    """A MultitaskModel with its optimizer and the reviews that it is fitted on."""

    def __init__(self, recipe: Recipe, fitted: Fitted, dataset: Dataset, initial: Floats | None = None) -> None:
        """`initial` [N + 1, Dr] are vectors that products start at, see `training.initial`."""
        tf.keras.utils.set_random_seed(recipe.seed)
        tf.get_logger().setLevel("ERROR")  # variables of a task that is not trained have no gradient: no news
        self.recipe, self.fitted = recipe, fitted
        self.model = MultitaskModel(recipe, fitted, dataset.customers["customer_id"], dataset.products["product_id"])
        if initial is not None:
            self.model.start(initial)
        adam = recipe.optimizer == "adam"
        self.optimizer = (
            LazyAdam(recipe.learning_rate, recipe.average)
            if adam
            else tf.keras.optimizers.Adagrad(recipe.learning_rate)
        )
        self.model.compile(optimizer=self.optimizer)
        self.optimizer.build(self.model.trainable_variables)
        self.plan = plan(fitted, recipe)

    def prepare(self) -> None:
        """Set up the input; AmzrecError where no list for a loss over lists can be made."""
        if not self.plan.size:
            raise AmzrecError(
                f"--rating-loss {self.recipe.rating_loss} needs customers with {self.plan.lists} reviews with stars; "
                "there are none. Lower --list-size, or use --rating-loss squared"
            )
        kind = IdSteps if self.recipe.features == "ids" else HistorySteps
        self.steps = kind(self.fitted, self.recipe, draws)
        self.rows = batches(self.steps, self._drawn)

    def _drawn(self) -> Iterator[tuple[int, Ints]]:
        """The number of each step of the present epoch, counted through all epochs, and its reviews."""
        first = (self.number - 1) * self.plan.steps
        return enumerate(positions(self.fitted, self.plan, [*self.seed, self.number]), first)

    def epoch(self, number: int, progress: Progress, label: str, logs: Path | None, phase: str) -> dict[str, float]:
        """One pass over the reviews in an order drawn from (seed, phase, number); returns the mean losses."""
        self.number, self.seed = number, [self.recipe.seed, int(phase == "refit")]
        callbacks: list[Any] = [StepCounter(progress, label, self.plan.steps, self.plan.size)]
        if logs:
            callbacks.append(tf.keras.callbacks.TensorBoard(str(logs / phase), profile_batch=0))
        log = self.model.fit(
            self.rows,
            initial_epoch=number - 1,
            epochs=number,
            steps_per_epoch=self.plan.steps,
            verbose=0,
            callbacks=callbacks,
        ).history
        constants = {
            "rating": float(np.var(self.fitted.value[self.fitted.rated > 0])) if self.fitted.rated.any() else 0.0,
            "retrieval": float(np.log(len(self.fitted.candidates))),
        }
        losses: dict[str, float] = {}
        for task in self.recipe.tasks:
            losses |= {f"{task}_loss": log[f"{task}_loss"][0], f"{task}_constant": constants[task]}
        return {name: round(float(value), 6) for name, value in losses.items()}

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """In this block the model has its averaged weights, which are what it answers from."""
        if not isinstance(self.optimizer, LazyAdam):
            return contextlib.nullcontext()
        return self.optimizer.averaged(self.model.trainable_variables)

    def queries(self, rows: Rows) -> Floats:
        """Customer vectors [n, D] of rows [n], with their histories."""
        return in_blocks(self.model.encoder.queries, rows, self.recipe.dim)

    def retrieval_queries(self, rows: Rows) -> Floats:
        """Customer vectors [n, Dr] of rows [n] for retrieval, with their histories."""
        return in_blocks(self.model.encoder.retrieval_queries, rows, self.recipe.retrieval_dims)

    def query_bases(self, rows: Rows) -> Floats:
        """Customer vectors [n, D] of rows [n] before their histories."""
        return in_blocks(self.model.encoder.query_tower.base, rows, self.recipe.dim)

    def retrieval_bases(self, rows: Rows) -> Floats:
        """Customer vectors [n, Dr] of rows [n] for retrieval before their histories."""
        return in_blocks(self.model.encoder.retrieval_bases, rows, self.recipe.retrieval_dims)

    def candidates(self, rows: Rows) -> Floats:
        """Product vectors [n, D] of rows [n], with their histories."""
        return in_blocks(self.model.encoder.candidates, rows, self.recipe.dim)

    def stars(self, customer: Rows, product: Rows, x: Floats, y: Floats) -> Floats:
        """Predicted stars of pairs [n] from their vectors [n, D], without the trend over time, not clipped."""
        encoder, start = self.model.encoder, self.recipe.rating_start
        q, c = encoder.query_tower, encoder.candidate_tower
        biases = q.bias(customer), c.bias(product), q.offset_of(customer), c.offset_of(product)
        predicted = self.model.rating_head(Pairs(tf.constant(x[:, start:]), tf.constant(y[:, start:]), *biases))
        stars: Floats = self.fitted.scale.to_stars(predicted.numpy())
        return stars

    def retrieval_vectors(self, x: Floats, y: Floats, products: Rows) -> tuple[Floats, Floats]:
        """Query vectors [n, Dr + 1] and candidate vectors [m, Dr + 1] whose inner product is the retrieval score.

        `x` [n, D] and `y` [m, D] are tower vectors, `products` [m] the rows of y. The last column is b as of the last
        period.
        """
        dims, task = self.recipe.retrieval_dims, self.model.retrieval
        temperature = float(np.exp(task.log_temperature.numpy()))
        b = task.popularity.numpy()[products] + self.fitted.popularity.log_share[-1, products, None]
        queries = np.concatenate([x[:, :dims] / temperature, np.ones((len(x), 1), np.float32)], axis=1)
        return queries.astype(np.float32), np.concatenate([y[:, :dims], b], axis=1).astype(np.float32)

    def context(self, products: Rows) -> Floats:
        """What the period of a query adds to the scores of products, [T, m]: 0 in the last period, which b is of."""
        share = self.fitted.popularity.log_share[:, products]
        return np.asarray(share - share[-1:], np.float32)

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


def draws(seed: int, stream: int, number: int) -> Floats:
    """Draw `number` times between 0 and 1; the same seed and stream give the same draws (features.steps.Draws)."""
    with tf.device("/CPU:0"):
        wrapped = np.array([seed % (1 << 64), stream], np.uint64).astype(np.int64)
        drawn: Floats = tf.random.stateless_uniform([number], wrapped).numpy()
    return drawn


def batches(steps: Steps, drawn: Callable[[], Iterator[tuple[int, Ints]]]) -> Any:
    """A tf.data.Dataset of the columns of steps, made on the host while the steps before are computed.

    `drawn` is asked each time that the dataset is read, for the number and the reviews of each step: building a dataset
    takes as long as a step of ML-100K.
    """
    some = np.zeros(1, np.int64)
    signature = tf.nest.map_structure(spec, steps.columns(some, 0))
    rows = tf.data.Dataset.from_generator(
        lambda: (steps.columns(reviews, number) for number, reviews in drawn()), output_signature=signature
    )
    options = tf.data.Options()
    options.autotune.enabled = False  # nothing to tune; its thread would be waited for, half a second an epoch
    return rows.prefetch(2).with_options(options)


def spec(array: Array) -> Any:
    """The type of an array of any length; a second dimension stays."""
    return tf.TensorSpec([None, *array.shape[1:]], array.dtype)


def in_blocks(vectors: Callable[[Rows], Any], rows: Rows, width: int) -> Floats:
    """Vectors [n, width] of rows [n], BLOCK rows at a time."""
    parts = [vectors(rows[i : i + BLOCK]).numpy() for i in range(0, len(rows), BLOCK)]
    return np.concatenate(parts) if parts else np.zeros((0, width), np.float32)


class StepCounter(tf.keras.callbacks.Callback):  # type: ignore[misc]
    """Tells the progress how many steps of the epoch are done, without reading a value from the device."""

    _supports_tf_logs = True

    def __init__(self, progress: Progress, label: str, total: int, size: int) -> None:
        super().__init__()
        self.progress, self.label, self.total, self.size = progress, label, total, size

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begin to count."""
        self.begun = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """One more."""
        rate = (batch + 1) * self.size / max(time.monotonic() - self.begun, 1e-9)
        self.progress.step(self.label, batch + 1, self.total, f"{rate:,.0f} examples/s")
