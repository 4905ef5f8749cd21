"""The learned vectors as TensorFlow modules that answer raw strings: what `export` saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from amzrec.answers.scann import DEEP, REORDER, REORDER_LEAST, WIDE, configure
from amzrec.arrays import Lists, Rows
from amzrec.exports.parts import RowLookup, Tensor, constant, names
from amzrec.exports.rules import ServedRules
from amzrec.model.keras2 import import_tensorflow
from amzrec.store.vectors import Vectors

tf: Any = import_tensorflow()


class Served(tf.Module):  # type: ignore[misc]
    """Answers raw strings: retrieval by brute force with exact masking, and the rating head.

    B customers, C and N known customers and products, M candidates, W names to exclude, L longest list of rows to hide.
    """

    def __init__(self, vectors: Vectors, assets: Path, stars: bool) -> None:
        """`assets` is a folder that lives until the module is saved; without `stars` there is no rating."""
        super().__init__()
        self.stars = stars
        self.customers = RowLookup(vectors.customer_ids, assets / "customers.txt")
        self.products = RowLookup(vectors.product_ids, assets / "products.txt")
        rows = np.asarray(vectors.candidates)
        column = np.full(len(vectors.product_ids), -1, np.int32)
        column[rows] = np.arange(len(rows), dtype=np.int32)
        self.column = constant(column)  # [N + 1] position among the candidates, -1 for none
        self.queries = constant(vectors.retrieval_query)  # [C + 1, d]
        self.candidates = constant(vectors.retrieval_candidate[rows])  # [M, d]
        self.ids = names(vectors.product_ids, rows)  # [M]
        self.titles = names(vectors.titles, rows)  # [M]
        self.seen_offsets = constant(vectors.seen_offsets)  # [C + 2]
        self.seen_product = constant(vectors.seen_product)  # [S]
        self.rows = constant(rows)  # [M]
        self.memory = ServedMemory(vectors, column) if vectors.memory else None
        self.rules = ServedRules(vectors, assets)
        if stars:
            head = vectors.head
            self.mean, self.low, self.high = (tf.constant(n, tf.float32) for n in (head.mean, head.low, head.high))
            self.rating_query = constant(vectors.rating_query)  # [C + 1, K + 2]
            self.rating_candidate = constant(vectors.rating_candidate)  # [N + 1, K + 2]
            self.rating_weight = constant(vectors.rating_weight)  # [K]
            self.layers = [(constant(kernel), constant(bias)) for kernel, bias in vectors.layers]

    def recommend(self, customer_id: Tensor, k: Tensor, exclude: Tensor) -> dict[str, Tensor]:
        """Find the k best candidates [B, min(k, M)] for each customer, without what was reviewed or excluded.

        `exclude` is [B, W], or [1, W] for all customers, or [0, W] for nothing; "" excludes nothing.
        Lines with fewer answers are padded: product_id and title "", score and stars 0; count [B] says how many are
        real. Unknown customers are answered by what row 0 learned, popularity.
        """
        customer = self.customers.lookup(customer_id)
        column, score = self.search(customer, self.size(k), self.hidden(customer, exclude))  # [B, k]
        return self.answer(customer, column, score)

    def recommend_by_rules(
        self,
        customer_id: Tensor,
        k: Tensor,
        exclude: Tensor,
        diversify: Tensor,
        at_most: Tensor,
        at_most_count: Tensor,
        only: Tensor,
        never: Tensor,
    ) -> dict[str, Tensor]:
        """Answer as `recommend`, by the rules of `amzrec recommend`, with an exact search; "" is no rule.

        `at_most` are names of features, `only` and `never` are features "name=value"; see ServedRules.
        """
        checks = [
            tf.debugging.assert_non_negative(diversify, "diversify must be from 0 to 1"),
            tf.debugging.assert_less_equal(diversify, 1.0, "diversify must be from 0 to 1"),
        ]
        with tf.control_dependencies([check for check in checks if check is not None]):
            plain = (diversify == 0) & tf.reduce_all(at_most == "")
        customer, k = self.customers.lookup(customer_id), self.size(k)
        scores = self.scores(customer, self.hidden(customer, exclude))
        scores = tf.where(self.rules.allowed(only, never), scores, -np.inf)
        score, column = tf.math.top_k(scores, self.size(self.rules.depth(k, plain)))
        limits = self.rules.limits(at_most, at_most_count)

        def chosen() -> tuple[Tensor, Tensor]:
            vectors = tf.gather(self.candidates, column)[:, :, :-1]
            place = self.rules.choose(score, vectors, *self.rules.limited(column, limits), k, diversify)
            at = tf.maximum(place, 0)
            found = tf.where(place >= 0, tf.gather(score, at, batch_dims=1), -np.inf)
            return tf.gather(column, at, batch_dims=1), found

        return self.answer(customer, *tf.cond(plain, lambda: (column, score), chosen))

    def size(self, k: Tensor) -> Tensor:
        """Bound the number of products that are asked for by the number of candidates; refuse less than 1."""
        positive = tf.debugging.assert_positive(k, "k must be at least 1")
        with tf.control_dependencies([positive] if positive is not None else []):
            return tf.minimum(k, tf.shape(self.candidates)[0])

    def answer(self, customer: Tensor, column: Tensor, score: Tensor) -> dict[str, Tensor]:
        """Say what stands in columns [B, k] of the candidates: the outputs of `recommend`."""
        real = score > -np.inf
        column = tf.where(real, column, 0)
        blank = tf.constant("")
        answer = {
            "product_id": tf.where(real, tf.gather(self.ids, column), blank),
            "title": tf.where(real, tf.gather(self.titles, column), blank),
            "score": tf.where(real, score, 0.0),
            "count": tf.reduce_sum(tf.cast(real, tf.int32), axis=1),
        }
        if self.stars:
            query = tf.gather(self.rating_query, customer)[:, None, :]  # [B, 1, K + 2]
            stars = self.predict(query, tf.gather(self.rating_candidate, tf.gather(self.rows, column)))
            answer["stars"] = tf.where(real, stars, 0.0)
        return answer

    def rate(self, customer_id: Tensor, product_id: Tensor) -> dict[str, Tensor]:
        """Predict the stars [B] of pairs; an unknown customer or product counts as an average one."""
        query = tf.gather(self.rating_query, self.customers.lookup(customer_id))
        return {"stars": self.predict(query, tf.gather(self.rating_candidate, self.products.lookup(product_id)))}

    def hidden(self, customer: Tensor, exclude: Tensor) -> Tensor:
        """List the columns of the candidates [B, L] that are not answered, padded with -1."""
        begin, end = tf.gather(self.seen_offsets, customer), tf.gather(self.seen_offsets, customer + 1)
        reviewed = tf.gather(self.seen_product, tf.ragged.range(begin, end)).to_tensor(0)  # [B, longest]
        rows = tf.concat([tf.cast(reviewed, tf.int64), self.products.lookup(per_customer(exclude, customer))], axis=1)
        return tf.gather(self.column, rows)

    def scores(self, customer: Tensor, hidden: Tensor) -> Tensor:
        """Score all candidates [B, M]; -inf where they are hidden."""
        scores = tf.matmul(tf.gather(self.queries, customer), self.candidates, transpose_b=True)  # [B, M]
        if self.memory:
            scores += self.memory.votes(customer, tf.shape(self.candidates)[0])
        at = tf.where(hidden >= 0)  # [n, 2]
        at = tf.stack([at[:, 0], tf.cast(tf.gather_nd(hidden, at), tf.int64)], axis=1)
        return tf.tensor_scatter_nd_min(scores, at, tf.fill([tf.shape(at)[0]], np.float32(-np.inf)))

    def search(self, customer: Tensor, k: Tensor, hidden: Tensor) -> Tensor:
        """Find the columns and scores [B, k] of the best candidates, best first, -inf where fewer are left."""
        score, column = tf.math.top_k(self.scores(customer, hidden), k)
        return column, score

    def predict(self, query: Tensor, product: Tensor) -> Tensor:
        """Predict the stars of query and product vectors [..., K + 2]; see Vectors."""
        query = query + tf.zeros_like(product)
        cross = query[..., :-2] * product[..., :-2]
        stars = self.mean + query[..., -1] + product[..., -1] + tf.reduce_sum(cross * self.rating_weight, axis=-1)
        hidden = tf.concat([query[..., :-1], product[..., :-1], cross], axis=-1)
        for number, (kernel, bias) in enumerate(self.layers):
            hidden = tf.tensordot(hidden, kernel, 1) + bias
            if number < len(self.layers) - 1:
                hidden = tf.nn.relu(hidden)
        return tf.clip_by_value(stars + hidden[..., 0] if self.layers else stars, self.low, self.high)

    def save(self, folder: Path) -> None:
        """Write the SavedModel with its signatures."""
        strings = tf.TensorSpec([None], tf.string)
        asked = {
            "customer_id": tf.TensorSpec([None], tf.string, name="customer_id"),
            "k": tf.TensorSpec([], tf.int32, name="k"),
            "exclude": tf.TensorSpec([None, None], tf.string, name="exclude"),
        }
        rules = {name: tf.TensorSpec([None], tf.string, name=name) for name in ("at_most", "only", "never")} | {
            "diversify": tf.TensorSpec([], tf.float32, name="diversify"),
            "at_most_count": tf.TensorSpec([None], tf.int32, name="at_most_count"),
        }
        recommend = tf.function(self.recommend).get_concrete_function(**asked)
        by_rules = tf.function(self.recommend_by_rules).get_concrete_function(**asked, **rules)
        signatures = {"serving_default": recommend, "recommend": recommend, "recommend_by_rules": by_rules}
        if self.stars:
            signatures["rate"] = tf.function(self.rate).get_concrete_function(customer_id=strings, product_id=strings)
        tf.saved_model.save(self, str(folder), signatures)


def per_customer(exclude: Tensor, customer: Tensor) -> Tensor:
    """Give each customer [B] a line of `exclude`: its own, the only one where there is one, "" where there is none."""
    lines, count = tf.shape(exclude)[0], tf.size(customer)
    fits = tf.debugging.Assert(
        (lines == count) | (lines <= 1),
        ["exclude must have one line, or one per customer; lines:", lines, "customers:", count],
    )
    with tf.control_dependencies([fits] if fits is not None else []):
        blank = tf.fill([1, tf.shape(exclude)[1]], "")  # is read where there is no line
        line = tf.where(lines == count, tf.range(count), tf.zeros([count], tf.int32))
    return tf.gather(tf.concat([exclude, blank], axis=0), line)


class ServedScann(Served):
    """Answers like Served with ScaNN in front: exact scores, an approximate choice above 20,000 candidates."""

    def __init__(self, vectors: Vectors, assets: Path, stars: bool) -> None:
        super().__init__(vectors, assets, stars)
        from scann.scann_ops.py import scann_ops

        builder = scann_ops.builder(self.candidates.numpy(), REORDER_LEAST, "dot_product")
        self.scann = configure(builder, len(vectors.candidates)).build().serialize_to_module()

    def voted(self, memory: ServedMemory, customer: Tensor, column: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
        """Add to what ScaNN found [B, n] all candidates with votes, and the votes to their scores."""
        votes = memory.votes(customer, tf.shape(self.candidates)[0])  # [B, M]
        found = tf.where(tf.math.is_nan(score), -1, column)
        score += tf.gather(votes, tf.maximum(found, 0), batch_dims=1)
        at = tf.where(votes != 0)
        others = tf.RaggedTensor.from_value_rowids(at[:, 1], at[:, 0], tf.size(customer, tf.int64)).to_tensor(-1)
        others = tf.cast(others, tf.int32)
        again = tf.reduce_any(others[:, :, None] == found[:, None, :], axis=2) | (others < 0)
        place = tf.maximum(others, 0)
        products = tf.einsum("bd,bvd->bv", tf.gather(self.queries, customer), tf.gather(self.candidates, place))
        voted = tf.where(again, np.float32(-np.inf), products + tf.gather(votes, place, batch_dims=1))
        return tf.concat([column, place], 1), tf.concat([score, voted], 1)

    def search(self, customer: Tensor, k: Tensor, hidden: Tensor) -> Tensor:
        """See Served.search, which answers wide exclusions, deep lists, and what ScaNN leaves short."""
        from scann.scann_ops.py import scann_ops

        def exact() -> Tensor:
            return super(ServedScann, self).search(customer, k, hidden)

        def near() -> Tensor:
            searcher = scann_ops.searcher_from_module(self.scann)
            rescored = tf.minimum(tf.maximum(REORDER_LEAST, REORDER * wanted), count)
            column, score = searcher.search_batched(tf.gather(self.queries, customer), wanted, rescored)
            column = tf.reshape(column, [tf.size(customer), wanted])
            score = tf.reshape(score, tf.shape(column))
            if self.memory:
                column, score = self.voted(self.memory, customer, column, score)
            out = tf.reduce_any(column[:, :, None] == hidden[:, None, :], axis=2)  # [B, wanted]
            score = tf.where(out | tf.math.is_nan(score), np.float32(-np.inf), score)
            best, order = tf.math.top_k(score, k)
            kept = tf.gather(column, order, batch_dims=1)
            return tf.cond(tf.reduce_all(best > -np.inf), lambda: (kept, best), exact)

        count = tf.shape(self.candidates)[0]
        wide = tf.shape(hidden)[1]
        wanted = tf.minimum(k + wide, count)
        return tf.cond((wide > WIDE) | (k + wide > DEEP), exact, near)


class ServedMemory(tf.Module):  # type: ignore[misc]
    """What the histories of customers vote for: see store.memory.Memory."""

    def __init__(self, vectors: Vectors, column: Rows) -> None:
        """`column` [N + 1] is the position of each product among the candidates, -1 for none."""
        super().__init__()
        fitted = np.isin(vectors.seen_part, vectors.head.fit_tags)
        histories = Lists.of(vectors.seen.owners[fitted], vectors.seen_product[fitted], len(vectors.seen))
        self.history_offsets, self.history = constant(histories.offsets), constant(histories.items)
        lists, offsets = vectors.memory_items, vectors.memory_offsets
        there = column[np.asarray(lists)] >= 0
        neighbours = Lists(np.asarray(offsets), np.asarray(lists))
        kept = Lists.of(neighbours.owners[there], column[neighbours.items[there]], len(neighbours))
        self.offsets, self.columns = constant(kept.offsets), constant(kept.items)
        self.weights = constant(np.asarray(vectors.memory_weights)[there])
        self.fade, self.last = vectors.head.memory_fade, vectors.head.memory_last
        self.per_log = vectors.head.memory_per_log

    def votes(self, customer: Tensor, candidates: Tensor) -> Tensor:
        """Add up the votes [B, candidates] of the histories of customer rows [B]."""
        begin, end = tf.gather(self.history_offsets, customer), tf.gather(self.history_offsets, customer + 1)
        if self.last:
            begin = tf.maximum(begin, end - self.last)
        slots = tf.ragged.range(begin, end)
        line, product = slots.value_rowids(), tf.gather(self.history, slots.flat_values)
        age = tf.gather(end, line) - 1 - slots.flat_values
        fade = tf.pow(tf.constant(self.fade, tf.float32), tf.cast(age, tf.float32))
        pairs = tf.ragged.range(tf.gather(self.offsets, product), tf.gather(self.offsets, product + 1))
        voter = pairs.value_rowids()
        at = tf.stack([tf.gather(line, voter), tf.cast(tf.gather(self.columns, pairs.flat_values), tf.int64)], axis=1)
        weights = tf.gather(self.weights, pairs.flat_values) * tf.gather(fade, voter)
        shape = tf.stack([tf.size(customer, tf.int64), tf.cast(candidates, tf.int64)])
        sums = tf.scatter_nd(at, weights, shape)
        return self.per_log * tf.math.log1p(sums) if self.per_log else sums
