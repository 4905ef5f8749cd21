"""The retrieval loss: softmax of each review's product against the candidates, a block of queries at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from amzrec.features.columns import PerQuery, QueryVotes
from amzrec.model.keras2 import import_tensorflow

tf: Any = import_tensorflow()
Tensor = Any

LOGITS = 1 << 24  # in memory at a time: blocks of LOGITS / M queries instead of all [Q, M]
TINY = 1e-26  # a mass below it, of shares against a bound instead of the peak, has lost digits
NOTHING = -1e30  # the logit of a candidate that is left out: its share is exactly 0


class Logits(NamedTuple):
    """How the logits [Q, M] of queries and candidates are made: query · candidate + bias + prior[period] + votes."""

    query: Tensor  # [Q, D]
    candidate: Tensor  # [M, D]
    bias: Tensor  # [M] popularity, log count, −log q
    prior: Tensor | None = None  # [T, M] of each period, without a gradient; None: nothing
    period: Tensor | None = None  # [Q] rows of the prior
    votes: QueryVotes | None = None  # what is added for pairs of a query and a candidate, without a gradient


class RetrievalBatch(NamedTuple):
    """What a batch asks of the softmax: each positive against the candidates that its query does not leave out."""

    positives: PerQuery  # B in all, at least one for each query; none of them is a negative of its query
    logit: Tensor  # [B] of each positive; given apart, because its vector leaves the target review out
    weight: Tensor | None = None  # [B] what each positive counts in the mean; None: all equal
    hidden: PerQuery | None = None  # candidates that are no negatives of a query, such as its other products


def softmax_loss(logits: Logits, batch: RetrievalBatch, hardest: int | None = None, half: bool = False) -> Tensor:
    """Compute the mean of log(1 + Σ exp(negative) / exp(positive)) over the positives of a batch, a scalar.

    The negatives of a query are all candidates but its positives and those hidden from it; `hardest` keeps only that
    many of them, those that score highest. With `half` the products of matrices read bfloat16, while what is summed up
    stays float32: value and gradients are right to a few percent.
    Bengio & Senécal 2003 (sampled softmax); Yi et al. 2019 (log q correction, eq. 3).
    """
    if logits.prior is not None and logits.prior.shape[0] == 1:
        logits = logits._replace(bias=logits.bias + tf.squeeze(logits.prior, 0), prior=None, period=None)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def loss(query: Tensor, candidate: Tensor, bias: Tensor, positive: Tensor) -> tuple[Tensor, Callable[..., Any]]:
        mine = logits._replace(query=query, candidate=candidate, bias=bias)
        return BlockedSoftmax(mine, batch._replace(logit=positive), hardest, Products(half)).run()

    return loss(logits.query, logits.candidate, logits.bias, batch.logit)


@dataclasses.dataclass(frozen=True)
class Products:
    """Products of float32 matrices; with `half` their factors are rounded to bfloat16, which keeps 8 binary digits."""

    half: bool

    def rounded(self, matrix: Tensor) -> Tensor:
        """Round a factor; one that is used in several products is rounded once."""
        return tf.cast(matrix, tf.bfloat16) if self.half else matrix

    def of(self, a: Tensor, b: Tensor, **transposed: bool) -> Tensor:
        """Multiply a and b, in float32."""
        return tf.cast(tf.matmul(self.rounded(a), self.rounded(b), **transposed), tf.float32)

    def columns(self, values: Tensor) -> list[Tensor]:
        """Split values [n] into columns [n, 1] that add up to them and lose little by rounding: one, or two of half."""
        first = tf.cast(self.rounded(values), tf.float32)
        parts = [first, values - first] if self.half else [values]
        return [tf.expand_dims(part, 1) for part in parts]


class Block(NamedTuple):
    """What one block of b queries reads."""

    rows: Tensor  # [b, D + 2] queries, ones and −bound of each: times the columns they are logits less the bound
    bound: Tensor  # [b]
    period: Tensor | None  # [b]
    owner: Tensor  # [e] which of the queries each positive belongs to
    logit: Tensor  # [e] of the positives
    weight: Tensor  # [e]
    left_out: Tensor  # [n, 2] query and candidate of what is no negative
    nothing: Tensor  # [n] NOTHING, which is added there
    voted: Tensor | None  # [v, 2] query and candidate of each vote
    votes: Tensor | None  # [v]


class BlockedSoftmax:
    """The value of the softmax loss and its gradients in one pass over blocks of b queries; no [Q, M] matrix is kept.

    1. Make the logits [b, M] less a bound of each row, without positives and without what is hidden.
    2. Take their exponentials, which are shares of the softmax but for a factor per row; their sum is the row's mass.
    3. Where the bound was so far above the logits that digits are lost, do so again less the row's highest logit.
    4. The loss of a positive is softplus(log mass − positive), and 1 − its share is the sigmoid of that difference.
    5. The factor that makes gradients of the exponentials, the row's pull, is the sum of 1 − share, over the mass.
    6. Add up the gradients: pull · shares @ candidates for the queries, sharesᵀ @ (pull · queries) for the candidates.

    For example, a query whose negatives have the logits 0 and log 3, and whose positive has log 4:
        mass = 1 + 3 = 4,  loss = softplus(log 4 − log 4) = log 2,  1 − share = 1/2,  pull = 1/2 / 4 = 1/8
        gradients of the logits: 1/8 and 3/8 of the negatives, −1/2 of the positive

    On a CPU each pass over a block costs as much as half a product. So bias, bound, mass and the gradient of the bias
    are columns of the three products, and the positives are never written into the block. Votes are few beside the
    logits: they are added one by one.
    """

    def __init__(self, logits: Logits, batch: RetrievalBatch, hardest: int | None, products: Products) -> None:
        self.logits, self.batch, self.hardest, self.products = logits, batch, hardest, products
        query, candidate, bias = logits.query, logits.candidate, logits.bias
        self.weight = tf.ones_like(batch.logit) if batch.weight is None else batch.weight
        self.width = tf.size(bias)
        # Cauchy-Schwarz; cheaper than the highest logit of each row, which is another pass
        self.bound = length(query) * tf.reduce_max(length(candidate)) + tf.reduce_max(bias)
        if logits.prior is not None:
            self.bound += tf.gather(tf.reduce_max(logits.prior, axis=1), logits.period)
        if logits.votes is not None:
            self.bound += logits.votes.highest
        self.queries = tf.size(self.bound)
        self.size = tf.maximum(LOGITS // self.width, 1)  # b of all blocks but the last
        added, less = products.columns(bias), products.columns(-self.bound)
        self.extra = len(added)  # columns that bias and bound take each
        one, ones = tf.ones_like(added[0]), tf.ones_like(less[0])
        self.rows = tf.concat([query, *[ones] * self.extra, *less], axis=1)  # [Q, D + 2]
        self.columns = products.rounded(tf.concat([candidate, *added, *[one] * self.extra], axis=1))  # [M, D + 2]
        self.summed = products.rounded(tf.concat([candidate, one], axis=1))  # [M, D + 1]

    def run(self) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]:
        """Return the loss, and what makes the gradients by query, candidate, bias and logit of the positives of it."""
        blocks = (self.queries + self.size - 1) // self.size
        shapes: Any = ([None, None], [None])
        arrays = [tf.TensorArray(tf.float32, size=blocks, infer_shape=False, element_shape=s) for s in shapes]
        d_columns = tf.zeros(tf.reverse(tf.shape(self.columns), [0]))  # [D + 2, M]
        _, total, d_query, d_columns, d_logit = tf.while_loop(
            lambda number, *_: number < blocks,
            self.add,
            (0, 0.0, arrays[0], d_columns, arrays[1]),
            parallel_iterations=1,
        )
        # all weights of a batch are 0 where all of its counts are
        scale, bias = tf.math.divide_no_nan(1.0, tf.reduce_sum(self.weight)), -2 * self.extra
        d_candidate = tf.transpose(d_columns[:bias], [1, 0])
        parts = (d_query.concat(), d_candidate, d_columns[bias], d_logit.concat())

        def gradients(upstream: Tensor) -> tuple[Tensor, ...]:
            factor = upstream * scale
            return tuple(part * factor for part in parts)

        return total * scale, gradients

    def take(self, number: Tensor) -> Block:
        """Cut block `number` out of what the batch asks."""
        first = number * self.size
        start, size = tf.expand_dims(first, 0), tf.expand_dims(tf.minimum(self.size, self.queries - first), 0)
        mine, owner, left_out = part(self.batch.positives, start, size)
        nothing = tf.fill(tf.shape(owner), NOTHING)
        if self.batch.hidden is not None:
            _, hidden_from, hidden = part(self.batch.hidden, start, size)
            left_out = tf.concat([left_out, hidden], 0)
            nothing = tf.concat([nothing, tf.fill(tf.shape(hidden_from), NOTHING)], 0)
        voted = votes = None
        if self.logits.votes is not None:
            cast, _, voted = part(self.logits.votes.listed, start, size)
            votes = tf.slice(self.logits.votes.weight, *cast)
        return Block(
            tf.slice(self.rows, tf.concat([start, [0]], 0), tf.concat([size, [-1]], 0)),
            tf.slice(self.bound, start, size),
            None if self.logits.period is None else tf.slice(self.logits.period, start, size),
            owner,
            tf.slice(self.batch.logit, *mine),
            tf.slice(self.weight, *mine),
            left_out,
            nothing,
            voted,
            votes,
        )

    def add(
        self, number: Tensor, total: Tensor, d_query: Tensor, d_columns: Tensor, d_logit: Tensor
    ) -> tuple[Tensor, ...]:
        """Add the loss and the gradients of one block to those of the blocks before it."""
        block = self.take(number)
        share, sums, mass = self.shares(block, block.rows)  # mass: 0 where no candidate is left
        share, sums, mass, peak = tf.cond(
            tf.reduce_min(mass) > TINY, lambda: (share, sums, mass, block.bound), lambda: self.again(block)
        )
        excess = tf.gather(tf.math.log(mass) + peak, block.owner) - block.logit
        missed = block.weight * tf.sigmoid(excess)
        pull = tf.expand_dims(tf.math.divide_no_nan(tf.math.segment_sum(missed, block.owner), mass), 1)
        return (
            number + 1,
            total + tf.reduce_sum(block.weight * tf.nn.softplus(excess)),
            d_query.write(number, sums[:, :-1] * pull),
            d_columns + self.products.of(block.rows * pull, share, transpose_a=True),
            d_logit.write(number, -missed),
        )

    def again(self, block: Block) -> tuple[Tensor, ...]:
        """The shares of a block less the highest logit of each row, and that logit [b]."""
        peak = block.bound + tf.reduce_max(self.negatives(block, block.rows), axis=1)
        rows = tf.concat([block.rows[:, : -self.extra], *self.products.columns(-peak)], axis=1)
        return *self.shares(block, rows), peak

    def shares(self, block: Block, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Exponentials [b, M] of the negatives, their sums [b, D + 1] over the candidates, and their mass [b]."""
        share = tf.exp(self.negatives(block, rows))
        rounded = self.products.rounded(share)
        sums = self.products.of(rounded, self.summed)
        return rounded, sums, tf.reduce_sum(share, axis=1) if self.products.half else sums[:, -1]

    def negatives(self, block: Block, rows: Tensor) -> Tensor:
        """Logits [b, M] as `rows` [b, D + 2] make them; NOTHING for what is no negative."""
        logits = self.products.of(rows, self.columns, transpose_b=True)
        if self.logits.prior is not None:
            logits += tf.gather(self.logits.prior, block.period)
        if block.voted is not None:
            logits = tf.raw_ops.ScatterNdNonAliasingAdd(input=logits, indices=block.voted, updates=block.votes)
        # in place, unlike tf.tensor_scatter_nd_update, which copies the block first: a sixth of the loss
        logits = tf.raw_ops.ScatterNdNonAliasingAdd(input=logits, indices=block.left_out, updates=block.nothing)
        if self.hardest is not None:
            least = tf.math.top_k(logits, tf.minimum(self.hardest, self.width)).values[:, -1:]
            logits = tf.where(logits >= least, logits, NOTHING)
        return logits


def part(listed: PerQuery, start: Tensor, size: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
    """Cut what is listed for queries start .. start + size, e in all, out of what is listed for all.

    Returns begin and size of the cut, the queries [e] counted from `start`, and query and candidate of each, [e, 2].
    Begins and sizes are vectors of one number, which is what tf.slice takes.
    """
    begin = tf.slice(listed.splits, start, [1])
    mine = begin, tf.slice(listed.splits, start + size, [1]) - begin
    query = tf.slice(listed.query, *mine) - tf.cast(start, tf.int64)
    return mine, query, tf.stack([query, tf.slice(listed.candidate, *mine)], axis=1)


def length(vectors: Tensor) -> Tensor:
    """The length [n] of vectors [n, D]."""
    return tf.sqrt(tf.reduce_sum(tf.square(vectors), axis=1))
