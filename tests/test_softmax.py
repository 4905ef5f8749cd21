"""The softmax loss: hand-worked values, the plain formula with its gradients, TFRS, one scale for any batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from amzrec.features.candidates import InBatch
from amzrec.features.columns import PerQuery, QueryVotes
from amzrec.model import softmax
from amzrec.model.keras2 import import_tensorflow, import_tfrs
from amzrec.model.softmax import Logits, RetrievalBatch, softmax_loss

tf: Any = import_tensorflow()
tfrs: Any = import_tfrs()

Case = tuple[Logits, RetrievalBatch]


def numbers(values: Any) -> Any:
    """A float32 tensor."""
    return tf.constant(values, tf.float32)


def listed(lists: list[list[int]]) -> Any:
    """Candidates listed for each query."""
    query = [number for number, mine in enumerate(lists) for _ in mine]
    place = [each for mine in lists for each in mine]
    return PerQuery(*map(tf.constant, PerQuery.of(np.array(query, int), np.array(place, int), len(lists))))


def asked(logits: Any, place: Any, **more: Any) -> RetrievalBatch:
    """One positive for each query: its logit and which candidate it is."""
    return RetrievalBatch(listed([[int(each)] for each in place]), numbers(logits), **more)


def drawn(queries: int, candidates: int = 7, dims: int = 3, periods: int = 0, most: int = 1, hidden: int = 0) -> Case:
    """Random vectors; 1 to `most` positives for each query, and up to `hidden` hidden candidates."""
    rng = np.random.default_rng([queries, most, hidden])
    query, candidate, bias = (rng.normal(size=shape) for shape in ((queries, dims), (candidates, dims), candidates))
    prior = numbers(rng.normal(size=(periods, candidates))) if periods else None
    period = tf.constant(rng.integers(0, periods, queries)) if periods else None
    logits = Logits(numbers(query), numbers(candidate), numbers(bias), prior, period)
    order = [rng.permutation(candidates).tolist() for _ in range(queries)]
    number = rng.integers(1, most + 1, queries)
    positives = listed([mine[:n] for mine, n in zip(order, number, strict=True)])
    logit = numbers(rng.normal(size=number.sum()))
    out = listed([mine[n : n + rng.integers(hidden + 1)] for mine, n in zip(order, number, strict=True)])
    return logits, RetrievalBatch(positives, logit, hidden=out if hidden else None)


def plain(logits: Logits, batch: Any, hardest: int | None = None) -> Any:
    """The formula written out, positive by positive: log(exp(positive) + Σ exp(negatives)) − positive."""
    scores = tf.matmul(logits.query, logits.candidate, transpose_b=True) + logits.bias
    if logits.prior is not None:
        scores += tf.gather(logits.prior, logits.period)
    if logits.votes is not None:
        pairs = tf.stack([logits.votes.listed.query, logits.votes.listed.candidate], axis=1)
        scores += tf.scatter_nd(pairs, logits.votes.weight, tf.shape(scores, tf.int64))
    lists = [batch.positives, *([batch.hidden] if batch.hidden else [])]
    losses = []
    for number, query in enumerate(batch.positives.query.numpy()):
        out = {int(place) for each in lists for place in each.candidate.numpy()[each.query.numpy() == query]}
        negatives = tf.gather(scores[query], [place for place in range(len(scores[0])) if place not in out])
        if hardest:
            negatives = tf.math.top_k(negatives, min(hardest, len(negatives))).values
        losses.append(tf.reduce_logsumexp(tf.concat([batch.logit[number, None], negatives], 0)) - batch.logit[number])
    weight = tf.ones_like(batch.logit) if batch.weight is None else batch.weight
    return tf.reduce_sum(weight * tf.stack(losses)) / tf.reduce_sum(weight)


def voted(case: Case) -> Case:
    """The case with three votes of each query, which may be for one candidate."""
    logits, batch = case
    queries, candidates = len(logits.query), len(logits.candidate)
    rng = np.random.default_rng(queries)
    lists = listed(rng.integers(0, candidates, (queries, 3)).tolist())
    weight = numbers(rng.random(3 * queries))
    highest = tf.reduce_sum(tf.reshape(weight, [queries, 3]), axis=1)
    votes = QueryVotes(lists, weight, highest, numbers(np.zeros(len(batch.logit))))
    return logits._replace(votes=votes), batch


def with_gradients(case: Case, loss: Any, factor: float = 1.0) -> list[Any]:
    """The loss, and its gradients by query, candidate, bias and the positives' logits."""
    logits, batch = case
    sources = [logits.query, logits.candidate, logits.bias, batch.logit]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        value = factor * loss(logits, batch)
    gradients = [tf.convert_to_tensor(each) for each in tape.gradient(value, sources)]
    return [value.numpy(), *(each.numpy() for each in gradients)]


def assert_equal_to_the_formula(case: Case, hardest: int | None = None, atol: float = 1e-5) -> None:
    """Compare value and gradients with those of the plain formula."""
    found = with_gradients(case, lambda logits, batch: softmax_loss(logits, batch, hardest), 3.0)
    known = with_gradients(case, lambda logits, batch: plain(logits, batch, hardest), 3.0)
    for ours, theirs in zip(found, known, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=atol)


@pytest.mark.parametrize("block", [1 << 24, 14])
def test_votes_are_added_to_the_scores(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax, "LOGITS", block)  # 14: blocks of two queries
    assert_equal_to_the_formula(voted(drawn(5)))
    assert_equal_to_the_formula(voted(drawn(5, periods=2, most=2, hidden=2)))


def test_a_vote_adds_to_the_score_of_its_candidate_as_worked_by_hand() -> None:
    # one query, three candidates of score 0; the first is wanted, the second has a vote of log 3: log(1 + 3 + 1) − 0
    votes = QueryVotes(listed([[1]]), numbers([np.log(3.0)]), numbers([np.log(3.0)]), numbers([0.0]))
    logits = Logits(numbers([[0.0]]), numbers([[0.0]] * 3), numbers([0.0] * 3), votes=votes)
    assert softmax_loss(logits, asked([0.0], [0])).numpy() == pytest.approx(np.log(5.0), abs=1e-6)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 4 queries where there are 7 candidates."""
    monkeypatch.setattr(softmax, "LOGITS", 4 * 7)


# --- worked by hand


def test_a_loss_worked_by_hand() -> None:
    # logits: the positive log 6, the others 1 · log 2 + log 1 and 1 · log 4 + 0, so p = 6 / (6 + 2 + 4) = 1/2
    logits = Logits(numbers([[1.0]]), numbers([[np.log(9)], [np.log(2)], [np.log(4)]]), numbers([5.0, 0.0, 0.0]))
    assert float(softmax_loss(logits, asked([np.log(6)], [0]))) == pytest.approx(np.log(2), abs=1e-6)


def test_the_example_of_the_docstring_and_its_gradients() -> None:
    case = Logits(numbers([[0.0]]), numbers([[0.0]] * 3), numbers([0.0, np.log(3), 9.0])), asked([np.log(4)], [2])
    loss, _, _, d_bias, d_positive = with_gradients(case, softmax_loss)
    assert loss == pytest.approx(np.log(2), abs=1e-6)
    np.testing.assert_allclose(d_bias, [1 / 8, 3 / 8, 0], atol=1e-6)
    np.testing.assert_allclose(d_positive, [-1 / 2], atol=1e-6)


def test_the_hardest_negatives_are_those_that_score_highest() -> None:
    logits = Logits(numbers([[0.0]]), numbers([[0.0]] * 4), numbers([5.0, 3.0, 2.0, 1.0]))
    loss = softmax_loss(logits, asked([2.0], [2]), hardest=1)
    assert float(loss) == pytest.approx(np.log(1 + np.exp(3.0)), abs=1e-5)  # 5 against 2; 3 and 1 are left out
    logits = Logits(numbers([[1.0]]), numbers([[0.0], [3.0], [1.0], [2.0]]), tf.zeros(4))
    known = np.log(np.exp([0.5, 3.0, 2.0]).sum()) - 0.5
    assert float(softmax_loss(logits, asked([0.5], [0]), hardest=2)) == pytest.approx(known, abs=1e-6)
    every = float(softmax_loss(logits, asked([0.5], [0])))
    assert float(softmax_loss(logits, asked([0.5], [0]), hardest=99)) == pytest.approx(every, abs=1e-6)


def test_a_positive_that_is_hidden_as_a_known_product_is_still_the_positive() -> None:
    logits, batch = drawn(1, candidates=3)
    everything = batch._replace(hidden=listed([[0, 1, 2]]))
    assert float(softmax_loss(logits, everything)) == pytest.approx(0, abs=1e-6)


def test_hidden_candidates_have_no_gradient() -> None:
    logits, batch = drawn(1, candidates=4)
    own = int(batch.positives.candidate[0])
    first, second, third = (place for place in range(4) if place != own)
    _, _, d_candidate, d_bias, _ = with_gradients(
        (logits, batch._replace(hidden=listed([[first, second]]))), softmax_loss
    )
    assert (d_candidate[[own, first, second]] == 0).all()
    assert (d_bias[[own, first, second]] == 0).all()
    assert (d_candidate[third] != 0).all()


# --- the plain formula


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("periods", [0, 1, 4])
@pytest.mark.parametrize("queries", [1, 4, 8, 11])  # less than a block of 4, one, two, and a partial one
def test_value_and_every_gradient_equal_the_formula_over_several_blocks(queries: int, periods: int) -> None:
    assert_equal_to_the_formula(drawn(queries, periods=periods))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("hardest", [None, 2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("most", "hidden"), [(3, 0), (1, 3), (3, 3)])
def test_value_and_every_gradient_equal_the_formula_with_all_that_a_batch_can_ask(
    most: int, hidden: int, weighted: bool, hardest: int | None
) -> None:
    logits, batch = drawn(9, periods=2, most=most, hidden=hidden)
    if weighted:
        weight = np.random.default_rng(1).integers(0, 4, len(batch.logit))  # some count nothing
        batch = batch._replace(weight=numbers(weight))
    assert_equal_to_the_formula((logits, batch), hardest)


def test_a_batch_in_which_nothing_weighs_has_no_loss_and_no_gradient() -> None:
    logits, batch = drawn(5)
    for value in with_gradients((logits, batch._replace(weight=tf.zeros_like(batch.logit))), softmax_loss):
        assert not np.asarray(value).any()


@pytest.mark.parametrize("periods", [0, 4])
def test_queries_far_below_the_bound_of_their_scores_lose_no_digits(periods: int) -> None:
    """One candidate is long and opposite to the queries: the bound is 600 above every score of a negative."""
    logits, batch = drawn(6, periods=periods)
    query = logits.query + tf.constant([10.0, 0.0, 0.0])
    candidate = tf.concat([logits.candidate[:-1], [[-60.0, 0.0, 0.0]]], 0)
    case = logits._replace(query=query, candidate=candidate), batch
    assert with_gradients(case, plain)[0] > 1
    assert_equal_to_the_formula(case, atol=3e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("small_blocks")
def test_inside_a_graph_with_batches_of_unknown_size_it_is_the_formula_too() -> None:
    def loss(query: Any, candidate: Any, bias: Any, logit: Any, splits: Any, of: Any, place: Any) -> Any:
        return softmax_loss(Logits(query, candidate, bias), RetrievalBatch(PerQuery(splits, of, place), logit))

    def arguments(queries: int) -> list[Any]:
        logits, batch = drawn(queries, most=2)
        return [logits.query, logits.candidate, logits.bias, batch.logit, *batch.positives]

    free = [tf.TensorSpec([None, *each.shape[1:]], each.dtype) for each in arguments(5)]
    compiled = tf.function(loss, input_signature=free)
    for queries in (3, 9):
        assert float(compiled(*arguments(queries))) == pytest.approx(float(plain(*drawn(queries, most=2))), abs=1e-5)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("queries", [4, 11])
def test_in_bfloat16_value_and_gradients_are_those_of_float32_to_three_percent(queries: int) -> None:
    logits, batch = drawn(queries, periods=3)
    # in 8 digits, biases of that size would be 1 or 2 apart from what they are
    case = logits._replace(bias=logits.bias + 300.0), batch._replace(logit=batch.logit + 300.0)
    exact = with_gradients(case, softmax_loss)
    rounded = with_gradients(case, lambda logits, batch: softmax_loss(logits, batch, half=True))
    for one, other in zip(exact, rounded, strict=True):
        assert other.dtype == np.float32
        assert np.abs(other - one).max() < 0.03 * np.abs(one).max()
    assert any((one != other).any() for one, other in zip(exact, rounded, strict=True)), "nothing was rounded"


def test_large_scores_do_not_overflow() -> None:
    logits, batch = drawn(3)
    assert np.isfinite(float(softmax_loss(logits._replace(candidate=logits.candidate * 1e4), batch)))


def test_a_query_whose_candidates_are_all_positive_or_hidden_teaches_nothing() -> None:
    logits, _ = drawn(2, candidates=3)
    batch = asked([0.3, -0.2], [1, 2], hidden=listed([[0, 1, 2], []]))
    loss, d_query, *rest = with_gradients((logits, batch), softmax_loss)
    alone = plain(logits._replace(query=logits.query[1:]), asked([-0.2], [2]))
    assert loss == pytest.approx(float(alone) / 2, abs=1e-5)
    assert (d_query[0] == 0).all()
    assert all(np.isfinite(part).all() for part in (d_query, *rest))


def test_a_step_down_the_gradient_lifts_the_positive_and_lowers_every_negative() -> None:
    logits, batch = drawn(1)
    *_, d_bias, d_positive = with_gradients((logits, batch), softmax_loss)
    own = int(batch.positives.candidate[0])
    assert float(d_positive[0]) < 0
    assert (np.delete(d_bias, own) > 0).all()
    assert d_bias[own] == 0  # the positive's logit was given apart


# --- beside TFRS


def test_unique_candidates_with_log_counts_are_the_batch_with_repeats() -> None:
    product = np.array([2, 0, 2, 1, 2, 0])  # rows of the batch; every other row is a negative, accidental hits left out
    rng = np.random.default_rng(1)
    query, table = rng.normal(size=(6, 3)), rng.normal(size=(3, 3))
    known = []
    for i in range(6):
        own = query[i] @ table[product[i]]
        negatives = [query[i] @ table[product[j]] for j in range(6) if product[j] != product[i]]
        known.append(np.log(np.exp(own) + np.exp(negatives).sum()) - own)
    bias = numbers(np.log(np.bincount(product)))
    own = (query * table[product]).sum(1)
    # the original masks accidental hits, so the positive counts once: its log count is in `bias`, not in `own`
    loss = softmax_loss(Logits(numbers(query), numbers(table), bias), asked(own, product))
    assert float(loss) == pytest.approx(float(np.mean(known)), abs=1e-5)


@pytest.mark.parametrize("repeats", [False, True])
def test_the_sum_of_tfrs_divided_by_the_batch_is_our_mean_where_the_original_is_right(repeats: bool) -> None:
    rng = np.random.default_rng(2)
    product = np.array([1, 3, 1, 0, 1]) if repeats else np.array([1, 3, 2, 0, 4])
    query, table = numbers(rng.normal(size=(5, 3))), numbers(rng.normal(size=(5, 3)))
    batch = tf.gather(table, product)  # TFRS takes the candidates of the batch, repeats and all
    original = tfrs.tasks.Retrieval(remove_accidental_hits=repeats)(query, batch, candidate_ids=tf.constant(product))
    rows, place, counts = tf.unique_with_counts(tf.constant(product))
    bias = tf.math.log(tf.cast(counts, tf.float32))
    mean = softmax_loss(Logits(query, tf.gather(table, rows), bias), asked(tf.reduce_sum(query * batch, 1), place))
    assert float(mean) == pytest.approx(float(original) / 5, abs=1e-5)


def test_with_log_counts_in_the_positive_too_it_is_tfrs_with_repeats_but_for_a_constant() -> None:
    rng = np.random.default_rng(3)
    product = np.array([1, 3, 1, 0, 1])
    query, table = numbers(rng.normal(size=(5, 3))), tf.Variable(numbers(rng.normal(size=(4, 3))))
    rows, place, counts = tf.unique_with_counts(tf.constant(product))
    bias = tf.math.log(tf.cast(counts, tf.float32))
    found = []
    for ours in (False, True):
        with tf.GradientTape() as tape:
            batch = tf.gather(table, product)
            own = tf.reduce_sum(query * batch, 1) + tf.gather(bias, place)
            loss = (
                softmax_loss(Logits(query, tf.gather(table, rows), bias), asked(own, place))
                if ours
                else tfrs.tasks.Retrieval()(query, batch) / 5
            )
        found.append((float(loss), tf.convert_to_tensor(tape.gradient(loss, table))))
    constant = float(tf.reduce_mean(tf.gather(bias, place)))  # the hits of a product are its own positives
    assert found[1][0] + constant == pytest.approx(found[0][0], abs=1e-5)
    np.testing.assert_allclose(found[1][1], found[0][1], atol=1e-5)


def test_trap_2_the_same_rows_twice_do_not_double_the_retrieval_loss() -> None:
    logits, batch = drawn(6)
    twice = logits._replace(query=tf.concat([logits.query] * 2, 0))
    doubled = softmax_loss(twice, asked(tf.concat([batch.logit] * 2, 0), [*np.asarray(batch.positives.candidate)] * 2))
    assert float(doubled) == pytest.approx(float(softmax_loss(logits, batch)), rel=1e-6)


def test_trap_3_rare_products_each_have_a_correction_of_their_own() -> None:
    class Reviews:  # a billion of them, of four products
        products = SimpleNamespace(counts=np.array([1, 10, 1000, 10_000_000]))

        def __len__(self) -> int:
            return 1_000_000_000

    fitted: Any = Reviews()
    bias = InBatch(fitted, log_q=True).of(np.arange(4, dtype=np.int32)).bias
    np.testing.assert_allclose(bias, [20.7232658, 18.4206807, 13.8155106, 4.6051702], rtol=1e-6)
    share = tf.constant([1e-9, 1e-8, 1e-6, 1e-2])
    clipped = tfrs.layers.loss.SamplingProbablityCorrection()(tf.zeros([1, 4]), share).numpy()[0]
    assert clipped[0] == clipped[1] == clipped[2]  # the trap, still there
    assert clipped[3] == pytest.approx(bias[3], abs=1e-4)
