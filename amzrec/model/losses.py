"""The losses over lists of stars: pairwise and listwise."""

from __future__ import annotations

from typing import Any

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
        order = tf.argsort(stars, axis=1, direction="DESCENDING", stable=True)
        scores = tf.gather(predicted, order, batch_dims=1)
        rest = tf.math.cumulative_logsumexp(scores, axis=1, reverse=True)
        return tf.reduce_mean(tf.reduce_sum(rest - scores, axis=1))
    better = tf.cast(stars[:, :, None] > stars[:, None, :], tf.float32)  # [L, n, n]
    margin = predicted[:, :, None] - predicted[:, None, :]
    loss = tf.nn.relu(1.0 - margin) if kind == "pairwise-hinge" else tf.nn.softplus(-margin)
    return tf.reduce_sum(loss * better) / tf.maximum(tf.reduce_sum(better), 1.0)
