"""The losses of both tasks: softmax over unique candidates in row blocks; pairwise and listwise losses of stars."""

from __future__ import annotations

from typing import Any

from amzrec.model.keras2 import import_tensorflow
from amzrec.model.sparse import row_of_each_entry

tf: Any = import_tensorflow()

LOGITS = 1 << 24  # in memory at a time: blocks of LOGITS / M queries instead of all [Q, M]
TINY = 1e-26  # a mass below it, of shares against a bound instead of the peak, has lost digits
NOTHING = -1e30  # the logit of a candidate that is left out: its share is exactly 0


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
    """Mean cross-entropy of each positive against the candidates that are no positive of its query.

    query [Q, D], candidate [M, D], bias [M] (popularity, log count, −log q). The positives of query q are splits[q] to
    splits[q + 1], splits [Q + 1]; None: one each, B = Q. target [B] is a positive's place among the candidates,
    positive [B] its logit (given apart because its vector leaves the target review out). prior [T, M] and period [Q]
    add prior[period] to the logits, without a gradient. hidden = (splits [Q + 1], places [E]) are candidates left out
    of each query's softmax, such as its other positives; `hardest` keeps only that many negatives of each query, those
    that score highest. weight [B] is what each positive counts in the mean; None: all the same. Returns a scalar: mean
    log(1 + Σ_negatives exp(logit) / exp(positive)). The gradient is computed in the same pass, LOGITS / M queries at a
    time, so no [Q, M] matrix is kept. With `half` the three products read and write bfloat16 and the sums of shares
    and over blocks stay float32: value and gradients to a few percent.
    Bengio & Senécal 2003 (sampled softmax); Yi et al. 2019 (log q correction, eq. 3).
    """
    size, width = tf.shape(query)[0], tf.shape(candidate)[0]
    block = tf.maximum(LOGITS // width, 1)
    blocks = (size + block - 1) // block
    if prior is not None and prior.shape[0] == 1:
        bias, prior = bias + prior[0], None
    weight = tf.ones_like(positive) if weight is None else weight
    scale = 1.0 / tf.reduce_sum(weight)

    def narrow(matrix: Any) -> Any:
        return tf.cast(matrix, tf.bfloat16) if half else matrix

    def product(a: Any, b: Any, **how: bool) -> Any:
        return tf.cast(tf.matmul(narrow(a), narrow(b), **how), tf.float32)

    def digits(column: Any) -> list[Any]:
        """Columns [n, 1] that add up to this one [n]: in bfloat16 it takes two to keep 16 digits of it."""
        first = tf.cast(narrow(column), tf.float32)
        return [first[:, None], (column - first)[:, None]] if half else [column[:, None]]

    def others(rows: Any, columns: Any, start: Any, end: Any, owner: Any, own: Any) -> Any:
        """[b, M] logits of the block's rows, without the places `own` of rows `owner` and without what is hidden."""
        logits = product(rows, columns, transpose_b=True)
        if prior is not None:
            logits += tf.gather(prior, period[start:end])
        row, column = owner, tf.cast(own, tf.int32)
        if hidden is not None:
            ends = hidden[0][start : end + 1]
            row = tf.concat([row, tf.cast(row_of_each_entry(ends[1:] - ends[:-1]), tf.int32)], 0)
            column = tf.concat([column, tf.cast(hidden[1][ends[0] : ends[-1]], tf.int32)], 0)
        out = tf.fill(tf.shape(row), NOTHING)
        # unlike tf.tensor_scatter_nd_update it works in place, which saves a copy of the block (a sixth of the loss)
        places = tf.stack([row, column], axis=1)
        logits = tf.raw_ops.ScatterNdNonAliasingAdd(input=logits, indices=places, updates=out)
        if hardest is not None:
            least = tf.math.top_k(logits, tf.minimum(hardest, width)).values[:, -1:]
            logits = tf.where(logits >= least, logits, NOTHING)
        return logits

    # Each pass over a block costs as much as half a product, so bias, peak, mass and the gradient of the bias are
    # columns of the three products, and the positive is never written into the block. The peak is a bound of the
    # logits (Cauchy-Schwarz); the block is done again with its own peaks where that bound is too far above them.
    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def loss(query: Any, candidate: Any, bias: Any, positive: Any) -> Any:
        added = digits(bias)
        one = tf.ones_like(added[0])
        columns = narrow(tf.concat([candidate, *added, *[one] * len(added)], axis=1))  # [M, D + 2]
        bound = tf.norm(query, axis=1) * tf.reduce_max(tf.norm(candidate, axis=1)) + tf.reduce_max(bias)
        if prior is not None:
            bound += tf.gather(tf.reduce_max(prior, axis=1), period)
        summed = narrow(tf.concat([candidate, one], axis=1))

        def body(step: Any, total: Any, d_query: Any, d_columns: Any, d_positive: Any) -> Any:
            start, end = step * block, tf.minimum((step + 1) * block, size)
            if splits is None:
                first, last, owner = start, end, tf.range(end - start)
            else:
                ends = splits[start : end + 1]
                first, last, owner = ends[0], ends[-1], tf.cast(row_of_each_entry(ends[1:] - ends[:-1]), tf.int32)
            ones = tf.ones([end - start, 1])

            def less(peak: Any) -> Any:
                rows = tf.concat([query[start:end], *[ones] * len(added), *digits(-peak)], axis=1)  # [b, D + 2]
                return others(rows, columns, start, end, owner, target[first:last])

            def shares(peak: Any) -> Any:
                """[b, M] shares times the mass, [b, D + 1] their sums, the mass and the peak [b] they are against."""
                share = tf.exp(less(peak))
                rounded = narrow(share)
                sums = product(rounded, summed)
                return rounded, sums, tf.reduce_sum(share, axis=1) if half else sums[:, -1], peak

            share, sums, mass, peak = shares(bound[start:end])  # mass: 0 where no candidate is left
            exact = tf.reduce_min(mass) > TINY
            share, sums, mass, peak = tf.cond(
                exact,
                lambda: (share, sums, mass, peak),
                lambda: shares(tf.reduce_max(less(tf.zeros_like(peak)), axis=1)),
            )
            rows = tf.concat([query[start:end], ones], axis=1)
            excess = tf.gather(tf.math.log(mass) + peak, owner) - positive[first:last]
            total += tf.reduce_sum(weight[first:last] * tf.nn.softplus(excess))
            missed = weight[first:last] * tf.sigmoid(excess)  # 1 − the share of the positive
            pull = tf.math.divide_no_nan(missed if splits is None else tf.math.segment_sum(missed, owner), mass)
            d_query = d_query.write(step, sums[:, :-1] * pull[:, None])
            d_positive = d_positive.write(step, -missed)
            d_columns += product(rows * pull[:, None], share, transpose_a=True)  # [D + 1, M]
            return step + 1, total, d_query, d_columns, d_positive

        shapes: Any = ([None, None], [None])
        arrays = [tf.TensorArray(tf.float32, size=blocks, infer_shape=False, element_shape=s) for s in shapes]
        _, total, d_query, d_columns, d_positive = tf.while_loop(
            lambda step, *_: step < blocks,
            body,
            (0, 0.0, arrays[0], tf.zeros([tf.shape(candidate)[1] + 1, width]), arrays[1]),
            parallel_iterations=1,
        )
        parts = (d_query.concat(), tf.transpose(d_columns[:-1]), d_columns[-1], d_positive.concat())

        def grad(upstream: Any) -> Any:
            return tuple(part * (upstream * scale) for part in parts)

        return total * scale, grad

    return loss(query, candidate, bias, positive)


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


def list_loss(kind: str, stars: Any, predicted: Any) -> Any:
    """Mean loss of lists of one customer's reviews: stars and predicted [L, n], a scalar.

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
