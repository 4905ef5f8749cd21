"""The model of the multi-task example of keras-rs on JAX, one step for each line on standard input.

    KERAS_BACKEND=jax python scripts/bench/keras_rs.py data.npz

Needs an environment with keras-rs and jax[cpu]; started by training.py --keras-rs PYTHON. data.npz has customer,
product, stars of one batch and the two sizes.
Embeddings 32 wide, a head of 256-128-1 on both, softmax over the batch's products with one-hot labels (summed), mean
squared error, Adagrad(0.1), compiled: https://keras.io/keras_rs/examples/multi_task. keras-rs itself adds only the
retrieval layer, which does not run while training.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import keras
import numpy as np


class Peer(keras.Model):  # type: ignore[misc]
    """Two embeddings, a rating head, both losses weighted 1 : 1."""

    def __init__(self, customers: int, products: int, width: int) -> None:
        super().__init__()
        layers = keras.layers
        self.query, self.candidate = (layers.Embedding(size + 1, width) for size in (customers, products))
        self.head = keras.Sequential([layers.Dense(256, "relu"), layers.Dense(128, "relu"), layers.Dense(1)])
        self.retrieval = keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")
        self.rating = keras.losses.MeanSquaredError()

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Both vectors and the rating."""
        x, y = self.query(inputs["customer"]), self.candidate(inputs["product"])
        return x, y, self.head(keras.ops.concatenate([x, y], axis=1))

    def compute_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None, training: bool = True) -> Any:
        """The sum of both."""
        query, candidate, stars = y_pred
        scores = keras.ops.matmul(query, keras.ops.transpose(candidate))
        return self.retrieval(keras.ops.eye(len(query)), scores) + self.rating(y[:, None], stars)


def main() -> None:
    """Answer each line with the wall and CPU seconds of one step."""
    data = np.load(sys.argv[1])
    model = Peer(int(data["customers"]), int(data["products"]), int(data["width"]))
    model.compile(optimizer=keras.optimizers.Adagrad(0.1))
    inputs, stars = {name: data[name] for name in ("customer", "product")}, data["stars"]
    model.train_on_batch(inputs, stars)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        model.train_on_batch(inputs, stars)
        print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)


if __name__ == "__main__":
    main()
