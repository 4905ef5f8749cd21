"""The model of the reference notebook on TensorFlow Recommenders, as it is and as an expert would feed it."""

from __future__ import annotations

from typing import Any

import numpy as np

from amzrec.model.keras2 import import_tensorflow, import_tfrs
from amzrec.store.dataset import Reviews
from synthetic import WIDTH
from timing import Step

tf: Any = import_tensorflow()
tfrs: Any = import_tfrs()


class Peer(tfrs.models.Model):  # type: ignore[misc]
    """Two embeddings, a rating head of 256 and 128, both tasks of TFRS as they are, weighted 1 : 1.

    With `strings` the towers begin with a StringLookup, as in the notebook; an expert gives rows. `scored` are titles
    that FactorizedTopK ranks in every step, duplicates and all, as in the notebook; None: no metric while training.
    """

    def __init__(self, customers: int, titles: int, strings: bool = False, scored: Any = None) -> None:
        super().__init__()
        layers, towers = tf.keras.layers, []
        for size in (customers, titles):
            lookup = [layers.StringLookup(vocabulary=[str(i) for i in range(1, size + 1)])] if strings else []
            towers.append(tf.keras.Sequential([*lookup, layers.Embedding(size + 1, WIDTH)]))
        self.query, self.candidate = towers
        self.head = tf.keras.Sequential([layers.Dense(256, "relu"), layers.Dense(128, "relu"), layers.Dense(1)])
        self.rating = tfrs.tasks.Ranking(loss=tf.keras.losses.MeanSquaredError())
        found = None
        if scored is not None:
            table = tf.data.Dataset.from_tensor_slices(scored).batch(128).map(self.candidate)
            found = tfrs.metrics.FactorizedTopK(candidates=table)
        self.retrieval, self.on = tfrs.tasks.Retrieval(metrics=found), scored is not None

    def compute_loss(self, inputs: Any, training: bool = False) -> Any:
        """Add up both losses, in float32; that of retrieval is a sum over the batch, as the notebook has it."""
        x, y = self.query(inputs["customer"]), self.candidate(inputs["product"])
        stars = self.head(tf.concat([x, y], axis=1))
        losses = self.rating(labels=inputs["stars"], predictions=stars), self.retrieval(x, y, compute_metrics=self.on)
        return sum(tf.cast(loss, tf.float32) for loss in losses)


def batch_of(some: Reviews, drawn: Any, strings: bool = False) -> dict[str, Any]:
    """The reviews at these positions, as the peers read them."""
    kind = str if strings else np.int32
    batch = {name: tf.constant(getattr(some, name)[drawn].astype(kind)) for name in ("customer", "product")}
    return batch | {"stars": tf.constant(some.stars[drawn])}


def step_of(model: Peer, batch: dict[str, Any]) -> Step:
    """One step with Adagrad, again and again on one batch; it reads back its loss."""
    model.compile(optimizer=tf.keras.optimizers.Adagrad(0.1))
    step = tf.function(model.train_step)
    return lambda: step(batch)["loss"].numpy()
