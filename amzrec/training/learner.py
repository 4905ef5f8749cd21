"""A model in training: its optimizer, its reviews, its epochs, and the vectors that it would answer from."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from amzrec.arrays import Array, Bools, Floats, Ints, Rows
from amzrec.config import SMALL_BATCH, Recipe
from amzrec.errors import AmzrecError, Progress
from amzrec.features.batches import EpochPlan, plan_epoch, shuffled_batches
from amzrec.features.columns import StepColumns
from amzrec.features.fitted import FittedReviews
from amzrec.features.order import steps_of
from amzrec.features.profiles import Profiles
from amzrec.features.shares import WHOLE, Share
from amzrec.model.head import Pairs
from amzrec.model.keras2 import Tensor, import_tensorflow
from amzrec.model.multitask import MultitaskModel
from amzrec.model.optimizer import Adagrad, LazyAdam
from amzrec.store.dataset import Dataset
from amzrec.training.release import forget_gradients, gradients_known
from amzrec.training.strategy import ONE, Replicas

tf: Any = import_tensorflow()
ALL = slice(None)
BLOCK = 8192  # rows whose vectors are computed at a time
READ = 16 * BLOCK  # reviews of their histories that are read at a time, one history more or less


class Learner:
    """A MultitaskModel with its optimizer and the reviews that it is fitted on."""

    scratch: Path | None = None  # folder in which large tables may be put aside, see `averaged`

    def __init__(
        self,
        recipe: Recipe,
        fitted: FittedReviews,
        dataset: Dataset,
        initial: Floats | None = None,
        fresh: Bools | None = None,
        replicas: Replicas = ONE,
    ) -> None:
        """Build an untrained model.

        `initial` [N + 1, Dr] are vectors that products start at, as `training.initial` finds them; None: random.
        `fresh` [n] are the fitted reviews that an epoch reads all of, beside a draw of the others; None: all.
        """
        self.gradients_before = gradients_known()
        tf.keras.utils.set_random_seed(recipe.seed)
        tf.get_logger().setLevel("ERROR")  # it would warn of variables without a gradient: those of an untrained task
        self.recipe, self.fitted, self.fresh, self.replicas = recipe, fitted, fresh, replicas
        ids = dataset.customers["customer_id"], dataset.products["product_id"]
        with replicas.scope():
            self.model = MultitaskModel(recipe, fitted, *ids)
            if initial is not None:
                self.model.start_at(initial)
            adam = recipe.optimizer == "adam"
            self.optimizer = LazyAdam(recipe.learning_rate, recipe.average) if adam else Adagrad(recipe.learning_rate)
            self.model.compile(optimizer=self.optimizer)
            self.optimizer.build(self.model.trainable_variables)
        self.means = tf.Variable(tf.zeros([len(self.model.loss_means), 2]))  # see `Replicas.local_means`
        self.kept = tf.train.Checkpoint(model=self.model, optimizer=self.optimizer, means=self.means)
        self.epoch_plan = plan_epoch(fitted, recipe, fresh)
        self.epoch_number, self.epoch_seed, self.steps_done = 1, [recipe.seed, 0], 0  # until `epoch` says otherwise

    def prepare(self) -> None:
        """Set up what epochs read.

        Raises AmzrecError where the loss is over lists and no customer has enough reviews for one.
        """
        plan = self.epoch_plan
        if not plan.batch_size:
            raise AmzrecError(
                f"--rating-loss {self.recipe.rating_loss} needs customers with {plan.reviews_together} reviews with "
                "stars; there are none. Lower --list-size, or use --rating-loss squared"
            )
        self.steps = steps_of(self.fitted, self.recipe, stateless_uniform)
        shares = self.replicas.shares
        self.step_columns = self.replicas.distributed(columns_dataset(self.steps, self._numbered_batches, shares))

    def _numbered_batches(self) -> Iterator[tuple[int, Ints]]:
        """Yield the steps of the present epoch: their numbers, counted through all epochs, and their reviews [B]."""
        first = (self.epoch_number - 1) * self.epoch_plan.steps + self.steps_done
        seed = [*self.epoch_seed, self.epoch_number]
        batches = shuffled_batches(self.fitted, self.epoch_plan, seed, self.fresh)
        return enumerate(itertools.islice(batches, self.steps_done, None), first)

    def epoch(
        self,
        number: int,
        progress: Progress,
        label: str,
        logs: Path | None,
        phase: str,
        done: int = 0,
        after_step: Callable[[int], None] = lambda done: None,
    ) -> dict[str, float]:
        """Pass once over the reviews, in an order drawn from the seed, the phase and the number of the epoch.

        `number` counts from 1, `label` is what the progress shows, `logs` is where TensorBoard reads. `done` steps of
        the epoch were done before the training was interrupted; `after_step` is called after each further one, with how
        many are done. Returns the mean loss of each task, and the loss of the task's constant predictor to compare it
        with.
        """
        self.epoch_number, self.epoch_seed = number, [self.recipe.seed, int(phase == "refit")]
        self.steps_done = done
        callbacks: list[Any] = [StepCounter(progress, label, self.epoch_plan, done, after_step)]
        if self.steps_done:
            callbacks.append(KeptMeans(self.model.loss_means))
        if logs:
            callbacks.append(tf.keras.callbacks.TensorBoard(str(logs / phase), profile_batch=0))
        if self.steps_done < self.epoch_plan.steps:
            self.model.fit(
                self.step_columns,
                initial_epoch=number - 1,
                epochs=number,
                steps_per_epoch=self.epoch_plan.steps - self.steps_done,
                verbose=0,
                callbacks=callbacks,
            )
        constants = {
            "rating": float(np.var(self.fitted.value[self.fitted.rated > 0])) if self.fitted.rated.any() else 0.0,
            "retrieval": float(np.log(len(self.fitted.candidates))),
        }
        losses: dict[str, float] = {}
        for task, mean in zip(self.recipe.tasks, self.model.loss_means, strict=True):
            losses |= {f"{task}_loss": mean.result(), f"{task}_constant": constants[task]}
        return {name: round(float(value), 6) for name, value in losses.items()}

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """Give the model its averaged weights, from which questions are answered, for a `with` block.

        Raises OSError where large tables cannot be put aside in `scratch`, if there is one.
        """
        if not isinstance(self.optimizer, LazyAdam):
            return contextlib.nullcontext()
        return self.optimizer.averaged(self.model.trainable_variables, self.scratch)

    def queries(self, rows: Rows, dims: slice = ALL) -> Floats:
        """Return the vectors [n, D] of customer rows [n], with their histories; or these dimensions of them."""
        return in_blocks(self.model.encoder.queries, rows, self.recipe.width, self.fitted.customers, dims)

    def retrieval_queries(self, rows: Rows) -> Floats:
        """Return the vectors [n, Dr] of customer rows [n] for retrieval, with their histories."""
        return in_blocks(self.model.encoder.retrieval_queries, rows, self.recipe.retrieval_dims, self.fitted.customers)

    def query_bases(self, rows: Rows, dims: slice = ALL) -> Floats:
        """Return the vectors [n, D] of customer rows [n] without their histories, or these dimensions of them."""
        return in_blocks(self.model.encoder.query_tower.base, rows, self.recipe.width, dims=dims)

    def retrieval_bases(self, rows: Rows) -> Floats:
        """Return the vectors [n, Dr] of customer rows [n] for retrieval, without their histories."""
        return in_blocks(self.model.encoder.retrieval_bases, rows, self.recipe.retrieval_dims)

    def candidates(self, rows: Rows, dims: slice = ALL) -> Floats:
        """Return the vectors [n, D] of product rows [n], with their histories; or these dimensions of them."""
        return in_blocks(self.model.encoder.candidates, rows, self.recipe.width, self.fitted.products, dims)

    def candidate_bases(self, rows: Rows, dims: slice = ALL) -> Floats:
        """Return the vectors [n, D] of product rows [n] without their histories, or these dimensions of them."""
        return in_blocks(self.model.encoder.candidate_tower.base, rows, self.recipe.width, dims=dims)

    def retrieval_candidates(self, rows: Rows) -> Floats:
        """Return the vectors [n, Dr] of product rows [n] for retrieval."""
        return in_blocks(
            self.model.encoder.retrieval_candidates, rows, self.recipe.retrieval_dims, self.fitted.products
        )

    def stars(self, customer: Rows, product: Rows, queries: Floats, candidates: Floats) -> Floats:
        """Predict the stars [n] of pairs of a customer and a product, without the trend over time, not clipped.

        `customer` and `product` [n] are rows, `queries` and `candidates` [n, D] their vectors.
        """
        encoder, start = self.model.encoder, self.recipe.rating_start
        q, c = encoder.query_tower, encoder.candidate_tower
        biases = q.shrunk_bias(customer), c.shrunk_bias(product), q.learned_offset(customer), c.learned_offset(product)
        pairs = Pairs(tf.constant(queries[:, start:]), tf.constant(candidates[:, start:]), *biases)
        predicted = self.model.rating_head(pairs)
        stars: Floats = self.fitted.scale.to_stars(predicted.numpy())
        return stars

    def retrieval_vectors(self, queries: Floats, candidates: Floats, products: Rows) -> tuple[Floats, Floats]:
        """Return query vectors [n, Dr + 1] and candidate vectors [m, Dr + 1] whose inner product is the score.

        `queries` [n, Dr] and `candidates` [m, Dr] are vectors of the towers, `products` [m] the rows of the candidates.
        The last column of a candidate is its b as of now, and 1 in a query.
        """
        task = self.model.retrieval
        temperature = float(np.exp(task.log_temperature.numpy()))
        b = task.popularity.numpy()[products] + self.fitted.popularity.log_share_now[products, None]
        x = np.concatenate([queries / temperature, np.ones((len(queries), 1), np.float32)], axis=1)
        return x.astype(np.float32), np.concatenate([candidates, b], axis=1).astype(np.float32)

    def context(self, products: Rows) -> Floats:
        """Return what each period adds to the scores of product rows [m], [T, m], beyond what b has as of now."""
        return self.fitted.popularity.beyond_now(products)

    def save(self, prefix: Path) -> None:
        """Write the weights and the state of the optimizer; raises OSError where that fails."""
        try:
            self.means.assign(self.replicas.local_means(self.model.loss_means))
            self.kept.write(str(prefix))
        except tf.errors.OpError as error:
            raise OSError(error.message) from error

    def restore(self, prefix: Path | None) -> None:
        """Read what `save` wrote; raises AmzrecError where it is missing, damaged or of another model.

        The workers of a cluster call this at the same time: the chief, which alone has the file, gives the others all.
        """
        replicas = self.replicas
        try:
            if prefix is not None:
                self.kept.read(str(prefix)).assert_existing_objects_matched()
        except (tf.errors.OpError, ValueError, AssertionError) as error:
            raise AmzrecError(
                f"the checkpoint {prefix} cannot be read ({str(error).splitlines()[0]}): begin again with --overwrite"
            ) from error
        replicas.copy_from_chief([self.means, *self.model.variables, *self.optimizer.variables])
        for mean, (total, count) in zip(self.model.loss_means, self.means.numpy(), strict=True):
            mean.set_weights([replicas.number * total, replicas.number * count])

    def close(self) -> None:
        """Let go of the model, its optimizer and its reviews: TensorFlow keeps for good what makes columns of steps."""
        forget_gradients(self.gradients_before)
        for kept in (getattr(self, "steps", None), self):
            if kept is not None:
                vars(kept).clear()


def stateless_uniform(seed: int, stream: int, number: int) -> Floats:
    """Draw `number` values between 0 and 1 on the host; the same seed and stream always give the same values."""
    with tf.device("/CPU:0"):
        wrapped = np.array([seed % (1 << 64), stream], np.uint64).astype(np.int64)
        values: Floats = tf.random.stateless_uniform([number], wrapped).numpy()
    return values


class MakesColumns(Protocol):
    """What makes the columns of the steps of a training."""

    recipe: Recipe

    def columns(self, reviews: Ints, step: int, share: Share) -> StepColumns:
        """Make the columns of a step, as Steps.columns says."""


def columns_dataset(
    steps: MakesColumns, numbered_batches: Callable[[], Iterator[tuple[int, Ints]]], shares: Sequence[Share] = (WHOLE,)
) -> Any:
    """Make a tf.data.Dataset of the columns of steps; the host makes them while the steps before are computed.

    Of each step the columns of these `shares` of it follow each other.

    One dataset serves all epochs, since making one takes as long as a step of ML-100K: each time that it is read it
    asks `numbered_batches` for the number and the reviews of each step.
    """
    one_review = np.zeros(1, np.int64)
    signature = tf.nest.map_structure(spec_of_any_length, steps.columns(one_review, 0, shares[0]))
    dataset = tf.data.Dataset.from_generator(
        lambda: (steps.columns(reviews, number, share) for number, reviews in numbered_batches() for share in shares),
        output_signature=signature,
    )
    options = tf.data.Options()
    options.autotune.enabled = False  # nothing to tune; its thread would be waited for, half a second an epoch
    waiting = 1 if steps.recipe.batch_size > SMALL_BATCH else 2  # columns of a large step are hundreds of megabytes
    return dataset.prefetch(waiting * len(shares)).with_options(options)


def spec_of_any_length(array: Array) -> Any:
    """Return the tf.TensorSpec of arrays like this one, with any number of rows."""
    return tf.TensorSpec([None, *array.shape[1:]], array.dtype)


def in_blocks(
    vectors: Callable[[Rows], Tensor], rows: Rows, width: int, side: Profiles | None = None, dims: slice = ALL
) -> Floats:
    """Compute the vectors [n, width] of rows [n], BLOCK rows at a time, and keep these dimensions of them.

    Fewer at a time where the rows of a `side` have long histories, which are read whole.
    """
    length = np.zeros(len(rows), np.int64) if side is None else side.histories.partners.lengths[rows]
    size = np.maximum(length, READ // BLOCK)
    block = (np.cumsum(size) - size) // READ
    first = np.flatnonzero(np.diff(block, prepend=-1))
    found = np.empty((len(rows), len(range(width)[dims])), np.float32)
    for start, end in itertools.pairwise([*first, len(rows)]):
        found[start:end] = vectors(rows[start:end]).numpy()[:, dims]
    return found


class StepCounter(tf.keras.callbacks.Callback):  # type: ignore[misc]
    """Tells the progress how many steps of an epoch are done, without reading a value from the device."""

    _supports_tf_logs = True

    def __init__(
        self, progress: Progress, label: str, plan: EpochPlan, done: int, after_step: Callable[[int], None]
    ) -> None:
        """`done` steps are done already; `after_step` is called after each further one, with how many are done."""
        super().__init__()
        self.progress, self.label, self.plan, self.done, self.after_step = progress, label, plan, done, after_step

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock."""
        self.begun = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Tell that one more step is done, and how many examples per second that makes."""
        rate = (batch + 1) * self.plan.batch_size / max(time.monotonic() - self.begun, 1e-9)
        self.progress.step(self.label, self.done + batch + 1, self.plan.steps, f"{rate:,.0f} examples/s")
        self.after_step(self.done + batch + 1)


class KeptMeans(tf.keras.callbacks.Callback):  # type: ignore[misc]
    """Gives means over an epoch what they had when it was interrupted, since Keras begins them anew."""

    def __init__(self, means: list[Any]) -> None:
        super().__init__()
        self.kept = [(mean, mean.get_weights()) for mean in means]

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Give them back, which Keras has just begun anew."""
        for mean, weights in self.kept:
            mean.set_weights(weights)
