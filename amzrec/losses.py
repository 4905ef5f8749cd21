"""The losses of both tasks: in-batch softmax over unique candidates, in row blocks, and squared error."""

from __future__ import annotations

from typing import Any

from amzrec.legacy import import_tensorflow

tf: Any = import_tensorflow()

BLOCK = 512  # rows of logits in memory at a time: [512, M] instead of [B, M]


@tf.custom_gradient  # type: ignore[untyped-decorator]
def softmax_loss(
    query: Any, candidate: Any, bias: Any, positive: Any, target: Any, prior: Any = None, period: Any = None
) -> Any:
    """Mean cross-entropy of each query against all candidates, the positive's logit given apart.

    query [B, D], candidate [M, D], bias [M] (popularity, log count, −log q), target [B] the positive's position among
    the candidates, positive [B] its logit (given apart because its vector leaves the target review out). prior [T, M]
    and period [B] add prior[period] to the logits, without a gradient. Returns a scalar. The gradient is computed in
    the same pass, BLOCK rows at a time, so no [B, M] matrix is kept.
    Bengio & Senécal 2003 (sampled softmax); Yi et al. 2019 (log q correction, eq. 3).
    """
    size = tf.shape(query)[0]
    blocks = (size + BLOCK - 1) // BLOCK
    transposed = tf.transpose(candidate)  # [D, M]

    def body(step: Any, total: Any, d_query: Any, d_candidate: Any, d_bias: Any, d_positive: Any) -> Any:
        start, end = step * BLOCK, tf.minimum((step + 1) * BLOCK, size)
        q, hit, own = query[start:end], target[start:end], positive[start:end]
        where = tf.stack([tf.range(end - start), tf.cast(hit, tf.int32)], axis=1)
        logits = tf.matmul(q, transposed) + bias[None, :]  # [b, M]
        if prior is not None:
            logits += tf.gather(prior, period[start:end])
        logits = tf.tensor_scatter_nd_update(logits, where, own)
        peak = tf.reduce_max(logits, axis=1, keepdims=True)
        share = tf.exp(logits - peak)
        mass = tf.reduce_sum(share, axis=1, keepdims=True)
        total += tf.reduce_sum(tf.math.log(mass) + peak) - tf.reduce_sum(own)
        share = share / mass  # softmax [b, M]
        d_own = tf.gather_nd(share, where) - 1.0
        share = tf.tensor_scatter_nd_update(share, where, tf.zeros_like(own))
        d_query = d_query.write(step, tf.matmul(share, candidate))
        d_positive = d_positive.write(step, d_own)
        d_candidate += tf.matmul(share, q, transpose_a=True)
        d_bias += tf.reduce_sum(share, axis=0)
        return step + 1, total, d_query, d_candidate, d_bias, d_positive

    arrays = [
        tf.TensorArray(tf.float32, size=blocks, infer_shape=False, element_shape=s) for s in ([None, None], [None])
    ]
    _, total, d_query, d_candidate, d_bias, d_positive = tf.while_loop(
        lambda step, *_: step < blocks,
        body,
        (0, 0.0, arrays[0], tf.zeros_like(candidate), tf.zeros_like(bias), arrays[1]),
        parallel_iterations=1,
    )
    scale = 1.0 / tf.cast(size, tf.float32)
    parts = (d_query.concat(), d_candidate, d_bias, d_positive.concat())

    def grad(upstream: Any) -> Any:
        return *(part * (upstream * scale) for part in parts), None, *([None, None] if prior is not None else [])

    return total * scale, grad


def candidate_bias(popularity: Any, log_q: Any, counts: Any = None) -> Any:
    """What is added to the logits of the candidates, [M].

    popularity [M] is the learned b. With in-batch negatives, counts [M] are each candidate's reviews in the batch:
    log counts make unique candidates equal to the batch with repeats; log_q [M] (None: no correction) is the log
    of each one's share in train, unclipped (trap: TFRS clips it at 1e-6).
    """
    if counts is None:
        return popularity
    bias = popularity + tf.math.log(counts)
    return bias if log_q is None else bias - log_q
