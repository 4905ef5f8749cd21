"""The losses of both tasks beside the softmax: the bias of its candidates; pairwise and listwise losses of stars."""

from __future__ import annotations

from typing import Any

from amzrec.model import softmax
from amzrec.model.keras2 import import_tensorflow
from amzrec.model.softmax import Logits, PerQuery, RetrievalBatch
from amzrec.model.sparse import row_of_each_entry

tf: Any = import_tensorflow()
Tensor = Any


def softmax_loss(
    query: Any,
    candidate: Any,
    bias: Any,
    positive: Any,
    target: Any,
    prior: Any = None,
    period: Any = None,
    hidden: tuple[Any, Any] | None = None,
    hardest: int | None = None,
    splits: Any = None,
    weight: Any = None,
    half: bool = False,
) -> Any:
    """Call `softmax.softmax_loss` with the arguments of before; gone when the model calls that itself."""

    def per_query(splits: Any, place: Any) -> PerQuery:
        splits = tf.cast(splits, tf.int64)
        query = row_of_each_entry(splits[1:] - splits[:-1])
        return PerQuery(tf.cast(splits, tf.int32), query, tf.cast(place, tf.int64))

    positives = PerQuery.one_each(target) if splits is None else per_query(splits, target)
    batch = RetrievalBatch(positives, positive, weight, None if hidden is None else per_query(*hidden))
    return softmax.softmax_loss(Logits(query, candidate, bias, prior, period), batch, hardest, half)


def candidate_bias(popularity: Tensor, log_q: Tensor | None, counts: Tensor | None = None) -> Tensor:
    """Add up what the logits of the candidates [M] have beside the product of vectors.

    popularity [M] is the learned b. With in-batch negatives, counts [M] are each candidate's reviews in the batch:
    the log of the counts makes unique candidates equal to the batch with its repeats, and log_q [M] (None: no
    correction) is the log of each one's share in train, unclipped; TFRS clips it at 1e-6.
    """
    if counts is None:
        return popularity
    bias = popularity + tf.math.log(counts)
    return bias if log_q is None else bias - log_q


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
