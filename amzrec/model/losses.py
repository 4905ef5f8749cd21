"""The losses over lists of stars: pairwise and listwise."""

from __future__ import annotations

from typing import Any

import numpy as np

from amzrec.model.keras2 import import_tensorflow

tf: Any = import_tensorflow()
Tensor = Any


def list_loss(kind: str, stars: Tensor, predicted: Tensor) -> Tensor:
    """Compute the mean loss of lists of n reviews of one customer each: stars and predicted [L, n], a scalar.

    pairwise-hinge: max(0, 1 − (s_i − s_j)) and pairwise-logistic: log(1 + exp(−(s_i − s_j))), the mean over all pairs
    with stars_i > stars_j (Burges et al. 2005). listmle: −log P(order by stars), the mean over lists (Xia et al. 2008,
    eq. 6); equal stars stay in the order given, which is random.
    """
    if kind == "listmle":
        return list_mle(stars, predicted)
    better = tf.cast(stars[:, :, None] > stars[:, None, :], tf.float32)  # [L, n, n]
    margin = predicted[:, :, None] - predicted[:, None, :]
    loss = tf.nn.relu(1.0 - margin) if kind == "pairwise-hinge" else tf.nn.softplus(-margin)
    return tf.reduce_sum(loss * better) / tf.maximum(tf.reduce_sum(better), 1.0)


def list_mle(stars: Tensor, predicted: Tensor) -> Tensor:
    """Compute the loss of listmle: the mean over lists of Σ log Σ exp(what is left) − what is drawn.

    Left, when i is drawn, are i and all j with fewer stars or with equal stars and a later place. Lists are short: to
    look at all pairs keeps a GPU at work, where to sort them would wait for the host.
    """
    size = stars.shape[1] or tf.shape(stars)[1]
    later = tf.linalg.band_part(tf.ones([size, size], tf.bool), 0, -1)  # [n, n] j at or after i
    mine, other = stars[:, :, None], stars[:, None, :]
    left = (other < mine) | ((other == mine) & later)  # [L, n, n]
    scores = tf.where(left, predicted[:, None, :], -np.inf)
    peak = tf.stop_gradient(tf.reduce_max(scores, axis=2, keepdims=True))
    mass = tf.reduce_sum(tf.exp(scores - peak), axis=2, keepdims=True)  # keepdims: its gradient needs no shape
    return tf.reduce_sum(tf.math.log(mass) + peak - predicted[:, :, None]) / tf.cast(tf.shape(stars)[0], tf.float32)
