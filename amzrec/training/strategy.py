"""Where a training is computed: on one device, on all devices of this host, or on the workers of a cluster.

Replicas of the model stand on each device. Each computes the losses of the reviews of some customers of a step, against
all candidates of the step (`features.shares`); the gradients are added up, and every replica does the same step of the
optimizer. So the batch, its negatives and all that is drawn are those of one device, however many there are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from amzrec.arrays import Array, Floats
from amzrec.errors import AmzrecError
from amzrec.features.shares import Share
from amzrec.model.keras2 import import_tensorflow
from amzrec.training.cluster import ALONE, Worker, worker_of

tf: Any = import_tensorflow()


@dataclasses.dataclass(frozen=True)
class Replicas:
    """The replicas that compute each step together, and which of them are in this process."""

    strategy: Any = None  # a tf.distribute.Strategy; None: one device, without any
    worker: Worker = ALONE
    number: int = 1  # of all workers

    @property
    def shares(self) -> list[Share]:
        """Return the shares of a step that this process computes."""
        here = self.number // self.worker.workers
        return [Share(self.worker.number * here + local, self.number) for local in range(here)]

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Make a `with` block in which variables are made once for each replica."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    def distributed(self, dataset: Any) -> Any:
        """Hand the elements of a tf.data.Dataset to the replicas of this process in turn."""
        if self.strategy is None:
            return dataset
        options = tf.distribute.InputOptions(experimental_fetch_to_device=False)  # as it is without a strategy
        return self.strategy.distribute_datasets_from_function(lambda _: dataset, options)

    def agree(self, document: Any) -> Any:
        """Return what the chief gives as JSON: floats that decide something may differ by processor."""
        if self.worker.workers == 1:
            return document
        text = np.frombuffer(json.dumps(document).encode() if self.worker.chief else b"", np.uint8)
        size = self._of_chief(np.array([len(text)], np.float32))[0]
        codes = np.resize(text, int(size)) if self.worker.chief else np.zeros(int(size))
        return json.loads(bytes(self._of_chief(codes.astype(np.float32)).astype(np.uint8)))

    def copy_from_chief(self, variables: Iterable[Any]) -> None:
        """Give these variables the values that they have at the chief."""
        for variable in variables if self.worker.workers > 1 else ():
            variable.assign(self._of_chief(variable.numpy()))

    def local_means(self, means: Iterable[Any]) -> Floats:
        """Return sum and number [n, 2] of n Keras means over an epoch, as the first replica of this process has them.

        To ask for their values is to add those of all replicas up, for which all workers would have to stop together;
        each replica knows them (MultitaskModel.compute_loss).
        """
        rows = [[self._local(variable).numpy() for variable in mean.variables] for mean in means]
        return np.array(rows, np.float32).reshape(-1, 2)

    def _local(self, variable: Any) -> Any:
        return self.strategy.experimental_local_results(variable)[0] if self.strategy else variable

    def _of_chief(self, values: Array) -> Array:
        """Return the values of the chief; all workers call this at the same time, with arrays of one shape."""
        found: Array = self.strategy.experimental_local_results(self._sum(tf.constant(values)))[0].numpy()
        return found

    @functools.cached_property
    def _sum(self) -> Callable[[Any], Any]:
        """Make the graph that adds up what the chief has and zeros."""

        def of_first(values: Any) -> Any:
            replica = tf.distribute.get_replica_context()
            mine = tf.where(replica.replica_id_in_sync_group == 0, values, tf.zeros_like(values))
            return replica.all_reduce(tf.distribute.ReduceOp.SUM, mine)

        found: Callable[[Any], Any] = tf.function(
            lambda values: self.strategy.run(of_first, (values,)), reduce_retracing=True
        )
        return found


ONE = Replicas()


def replicas_of(strategy: str) -> Replicas:
    """Set up the replicas of a --strategy.

    auto takes the cluster that TF_CONFIG lists, if it has more than one worker, or else the GPUs of this host, if it
    has more than one, or else one device. Raises AmzrecError where a cluster cannot be set up.
    """
    worker = worker_of(strategy)
    if worker.workers > 1:
        return cluster_of(worker)
    several = strategy in ("auto", "multi-worker") and len(tf.config.list_physical_devices("GPU")) > 1
    if strategy != "mirrored" and not several:
        return ONE
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) == 1:  # a strategy would take a fifth more of a small step, for nothing
        return ONE
    mirrored = tf.distribute.MirroredStrategy([device.name for device in devices])
    return Replicas(mirrored, ALONE, mirrored.num_replicas_in_sync)


@functools.cache
def cluster_of(worker: Worker) -> Replicas:
    """Join the cluster that TF_CONFIG lists, once in a process; waits for the other workers."""
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:  # once anything was computed, TensorFlow takes no part in a cluster any more
        raise AmzrecError(
            f"TensorFlow cannot join the cluster of TF_CONFIG in a process that has computed already ({error}): train "
            "with --strategy multi-worker first, or in a process of its own"
        ) from error
    except tf.errors.OpError as error:
        raise gone(error) from error
    if strategy.num_replicas_in_sync % worker.workers:
        raise AmzrecError(
            f"{worker.workers} workers have {strategy.num_replicas_in_sync} devices in all: each must have as many as "
            "the others. Show each the same number of GPUs (CUDA_VISIBLE_DEVICES)"
        )
    return Replicas(strategy, worker, strategy.num_replicas_in_sync)


def gone(error: Exception) -> AmzrecError:
    """Return the error of a worker that waits for another one in vain."""
    return AmzrecError(
        f"another worker is gone ({str(error).splitlines()[0][:200]}): start all workers again with --resume, which "
        "goes on from the last checkpoint; amzrec launch does so by itself"
    )


LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


@contextlib.contextmanager
def together(replicas: Replicas) -> Iterator[None]:
    """Turn what TensorFlow says of a lost worker into an AmzrecError, for a `with` block."""
    try:
        yield
    except LOST as error:
        if replicas.worker.workers == 1:
            raise
        raise gone(error) from error
