"""The losses: hand-worked values, the plain formula and its gradients, TFRS's own loss, one scale for both tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from amzrec.model import losses
from amzrec.model.keras2 import import_tensorflow, import_tfrs
from amzrec.model.losses import candidate_bias, list_loss, softmax_loss

tf: Any = import_tensorflow()
tfrs: Any = import_tfrs()


def plain(
    query: Any, candidate: Any, bias: Any, positive: Any, target: Any, prior: Any = None, period: Any = None
) -> Any:
    """The [B, M] formula, written out: log Σ exp(logits) − positive, the target's logit being the positive."""
    logits = tf.matmul(query, candidate, transpose_b=True) + bias
    if prior is not None:
        logits += tf.gather(prior, period)
    hit = tf.one_hot(target, len(candidate))
    logits = hit * positive[:, None] + (1 - hit) * logits
    return tf.reduce_mean(tf.reduce_logsumexp(logits, axis=1) - positive)


def random_inputs(size: int, candidates: int = 7, dims: int = 3, periods: int = 0) -> list[Any]:
    """Arguments of softmax_loss."""
    rng = np.random.default_rng(size)
    shapes = ((size, dims), (candidates, dims), (candidates,), (size,))
    inputs = [tf.constant(rng.normal(size=shape), tf.float32) for shape in shapes]
    inputs.append(tf.constant(rng.integers(0, candidates, size)))
    if periods:
        inputs.append(tf.constant(rng.normal(size=(periods, candidates)), tf.float32))
        inputs.append(tf.constant(rng.integers(0, periods, size), tf.int32))
    return inputs


def test_a_loss_worked_by_hand() -> None:
    # logits: the positive log 6, the others 1 · log 2 + log 1 and 1 · log 4 + 0, so p = 6 / (6 + 2 + 4) = 1/2
    query, candidate = [[1.0]], [[np.log(9.0)], [np.log(2.0)], [np.log(4.0)]]
    loss = softmax_loss(
        *(tf.constant(x, tf.float32) for x in (query, candidate, [5.0, 0.0, 0.0], [np.log(6.0)])), tf.constant([0])
    )
    assert float(loss) == pytest.approx(np.log(2.0), abs=1e-6)


@pytest.mark.parametrize("size", [4, 11])
def test_in_bfloat16_value_and_gradients_are_those_of_float32_to_three_percent(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "LOGITS", 4 * 7)
    inputs = random_inputs(size, periods=3)
    inputs[2] = inputs[2] + 300.0  # in 8 digits, biases of that size would be 1 or 2 apart from what they are
    inputs[3] = inputs[3] + 300.0
    found = []
    for half in (False, True):
        with tf.GradientTape() as tape:
            tape.watch(inputs[:4])
            loss = softmax_loss(*inputs, half=half)
        found.append([loss, *tape.gradient(loss, inputs[:4])])
    for exact, rounded in zip(*found, strict=True):
        assert rounded.dtype == tf.float32
        assert np.abs(rounded - exact).max() < 0.03 * np.abs(exact).max()
    assert any((a.numpy() != b.numpy()).any() for a, b in zip(*found, strict=True)), "nothing was rounded"


@pytest.mark.parametrize("periods", [0, 4])
@pytest.mark.parametrize("size", [1, 4, 8, 11])
def test_value_and_every_gradient_equal_the_plain_formula_over_several_blocks(
    size: int, periods: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "LOGITS", 4 * 7)  # 1: less than a block, 4: one, 8: two, 11: a partial one
    inputs = random_inputs(size, periods=periods)
    found = []
    for loss in (softmax_loss, plain):
        with tf.GradientTape() as tape:
            tape.watch(inputs[:4])
            value = 3.0 * loss(*inputs)
        found.append([value, *tape.gradient(value, inputs[:4])])
    for ours, known in zip(*found, strict=True):
        np.testing.assert_allclose(ours, known, atol=1e-5)


def test_the_same_inside_a_graph_with_batches_of_unknown_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "LOGITS", 4 * 7)
    free = [tf.TensorSpec([None, *x.shape[1:]], x.dtype) for x in random_inputs(5, periods=2)]
    compiled = tf.function(softmax_loss, input_signature=free)
    for size in (3, 9):
        inputs = random_inputs(size, periods=2)
        assert float(compiled(*inputs)) == pytest.approx(float(plain(*inputs)), abs=1e-5)


def test_weights_are_those_of_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "LOGITS", 4 * 7)
    inputs, weight = random_inputs(6), tf.constant([0.5, 2.0, 1.0, 0.0, 3.0, 1.5])  # their sum is 8
    found = []
    for name in ("weighted", "one by one"):
        with tf.GradientTape() as tape:
            tape.watch(inputs[:4])
            if name == "weighted":
                value = softmax_loss(*inputs, weight=weight)
            else:
                parts = zip(*(tf.split(inputs[i], 6) for i in (0, 3, 4)), strict=True)
                alone = [plain(query, inputs[1], inputs[2], own, target) for query, own, target in parts]
                value = tf.reduce_sum(weight * tf.stack(alone)) / 8.0
        found.append([value, *tape.gradient(value, inputs[:4])])
    for ours, known in zip(*found, strict=True):
        np.testing.assert_allclose(ours, known, atol=1e-5)


@pytest.mark.parametrize("periods", [0, 4])
def test_queries_far_below_the_bound_of_their_scores_lose_no_digits(periods: int) -> None:
    """One candidate is long and opposite to the queries: the bound is 600 above every score of a negative."""
    inputs = random_inputs(6, periods=periods)
    inputs[0] = inputs[0] + tf.constant([10.0, 0.0, 0.0])
    inputs[1] = tf.concat([inputs[1][:-1], [[-60.0, 0.0, 0.0]]], 0)
    found = []
    for loss in (softmax_loss, plain):
        with tf.GradientTape() as tape:
            tape.watch(inputs[:4])
            value = loss(*inputs)
        found.append([value, *tape.gradient(value, inputs[:4])])
    assert float(found[1][0]) > 1
    for ours, known in zip(*found, strict=True):
        np.testing.assert_allclose(ours, known, atol=1e-4)


def test_a_query_whose_candidates_are_all_positive_or_hidden_teaches_nothing() -> None:
    inputs = random_inputs(2, candidates=3)
    hidden = tf.constant([0, 3, 3]), tf.constant([0, 1, 2])
    with tf.GradientTape() as tape:
        tape.watch(inputs[:4])
        loss = softmax_loss(*inputs, hidden=hidden)
    alone = plain(*(x[1:] if i in (0, 3, 4) else x for i, x in enumerate(inputs)))
    assert float(loss) == pytest.approx(float(alone) / 2, abs=1e-5)
    d_query, *rest = tape.gradient(loss, inputs[:4])
    assert (d_query[0].numpy() == 0).all()
    assert all(np.isfinite(part).all() for part in (d_query, *rest))


def test_large_scores_do_not_overflow() -> None:
    inputs = random_inputs(3)
    inputs[1] *= 1e4
    assert np.isfinite(float(softmax_loss(*inputs)))


def test_a_step_down_the_gradient_lifts_the_positive_and_lowers_every_negative() -> None:
    query, candidate, bias, positive, target = random_inputs(1)
    with tf.GradientTape() as tape:
        tape.watch([bias, positive])
        loss = softmax_loss(query, candidate, bias, positive, target)
    d_bias, d_positive = tape.gradient(loss, [bias, positive])
    assert float(d_positive[0]) < 0
    others = np.arange(7) != int(target[0])
    assert (d_bias.numpy()[others] > 0).all()
    assert float(d_bias[int(target[0])]) == 0  # the positive's logit was given apart


def test_unique_candidates_with_log_counts_are_the_batch_with_repeats() -> None:
    product = np.array([2, 0, 2, 1, 2, 0])  # rows of the batch; every other row is a negative, accidental hits left out
    rng = np.random.default_rng(1)
    query, table = rng.normal(size=(6, 3)), rng.normal(size=(3, 3))
    known = []
    for i in range(6):
        own = query[i] @ table[product[i]]
        negatives = [query[i] @ table[product[j]] for j in range(6) if product[j] != product[i]]
        known.append(np.log(np.exp(own) + np.exp(negatives).sum()) - own)
    counts = tf.constant(np.bincount(product), tf.float32)
    bias = candidate_bias(tf.zeros(3), None, counts)
    own = tf.constant((query * table[product]).sum(1), tf.float32)
    inputs = tf.constant(query, tf.float32), tf.constant(table, tf.float32), bias, own, tf.constant(product)
    # the original masks accidental hits, so the positive counts once: its log count is in `bias`, not in `own`
    assert float(softmax_loss(*inputs)) == pytest.approx(float(np.mean(known)), abs=1e-5)


@pytest.mark.parametrize("repeats", [False, True])
def test_the_sum_of_tfrs_divided_by_the_batch_is_our_mean_where_the_original_is_right(repeats: bool) -> None:
    rng = np.random.default_rng(2)
    product = np.array([1, 3, 1, 0, 1]) if repeats else np.array([1, 3, 2, 0, 4])
    query = tf.constant(rng.normal(size=(5, 3)), tf.float32)
    table = tf.constant(rng.normal(size=(5, 3)), tf.float32)
    batch = tf.gather(table, product)  # TFRS takes the candidates of the batch, repeats and all
    original = tfrs.tasks.Retrieval(remove_accidental_hits=repeats)(query, batch, candidate_ids=tf.constant(product))
    rows, place, counts = tf.unique_with_counts(tf.constant(product))
    bias = candidate_bias(tf.zeros(len(rows)), None, tf.cast(counts, tf.float32))
    mean = softmax_loss(query, tf.gather(table, rows), bias, tf.reduce_sum(query * batch, 1), place)
    assert float(mean) == pytest.approx(float(original) / 5, abs=1e-5)


def test_with_log_counts_in_the_positive_too_it_is_tfrs_with_repeats_but_for_a_constant() -> None:
    rng = np.random.default_rng(3)
    product = np.array([1, 3, 1, 0, 1])
    query = tf.constant(rng.normal(size=(5, 3)), tf.float32)
    table = tf.Variable(rng.normal(size=(4, 3)), dtype=tf.float32)
    rows, place, counts = tf.unique_with_counts(tf.constant(product))
    bias = candidate_bias(tf.zeros(len(rows)), None, tf.cast(counts, tf.float32))
    found = []
    for ours in (False, True):
        with tf.GradientTape() as tape:
            batch = tf.gather(table, product)
            if ours:
                own = tf.reduce_sum(query * batch, 1) + tf.gather(bias, place)
                loss = softmax_loss(query, tf.gather(table, rows), bias, own, place)
            else:
                loss = tfrs.tasks.Retrieval()(query, batch) / 5
        found.append((float(loss), tf.convert_to_tensor(tape.gradient(loss, table))))
    constant = float(tf.reduce_mean(tf.gather(bias, place)))  # the hits of a product are its own positives
    assert found[1][0] + constant == pytest.approx(found[0][0], abs=1e-5)
    np.testing.assert_allclose(found[1][1], found[0][1], atol=1e-5)


def test_trap_2_the_same_rows_twice_do_not_double_the_retrieval_loss() -> None:
    query, candidate, bias, positive, target = random_inputs(6)
    twice = [tf.concat([x, x], axis=0) for x in (query, positive, target)]
    doubled = softmax_loss(twice[0], candidate, bias, twice[1], twice[2])
    assert float(doubled) == pytest.approx(float(softmax_loss(query, candidate, bias, positive, target)), rel=1e-6)


def test_trap_3_rare_products_each_have_a_correction_of_their_own() -> None:
    log_q = tf.math.log(tf.constant([1e-9, 1e-8, 1e-6, 1e-2]))  # TFRS clips at 1e-6: the first three would be equal
    bias = candidate_bias(tf.zeros(4), log_q, tf.ones(4)).numpy()
    np.testing.assert_allclose(bias, [20.7232658, 18.4206807, 13.8155106, 4.6051702], rtol=1e-6)
    clipped = tfrs.layers.loss.SamplingProbablityCorrection()(tf.zeros([1, 4]), tf.exp(log_q)).numpy()[0]
    assert clipped[0] == clipped[1] == clipped[2]  # the trap, still there
    assert clipped[3] == pytest.approx(bias[3], abs=1e-4)


def test_the_whole_catalogue_needs_no_correction() -> None:
    popularity = tf.constant([0.5, -1.0])
    np.testing.assert_array_equal(candidate_bias(popularity, tf.constant([-3.0, -4.0])), popularity)


def plain_softmax(logits: Any, target: Any) -> float:
    """Mean cross-entropy of a full matrix of logits, -inf for candidates that are left out."""
    peak = logits.max(axis=1, keepdims=True)
    mass = np.log(np.exp(logits - peak).sum(axis=1)) + peak[:, 0]
    return float((mass - logits[np.arange(len(target)), target]).mean())


def test_hidden_candidates_have_no_share_and_no_gradient() -> None:
    rng = np.random.default_rng(3)
    query, candidate = (rng.normal(size=shape).astype(np.float32) for shape in ((3, 2), (5, 2)))
    target, logits = np.array([0, 4, 2]), query @ candidate.T
    logits[0, [1, 2]] = logits[2, 3] = -np.inf
    hidden = tf.constant([0, 2, 2, 3]), tf.constant([1, 2, 3])
    positive = tf.constant(logits[np.arange(3), target])
    with tf.GradientTape() as tape:
        bias = tf.Variable(np.zeros(5, np.float32))
        loss = losses.softmax_loss(
            tf.constant(query), tf.constant(candidate), bias, positive, tf.constant(target), hidden=hidden
        )
    assert float(loss) == pytest.approx(plain_softmax(logits, target), abs=1e-5)
    share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    share[np.arange(3), target] = 0  # the positives' own logits are given apart
    np.testing.assert_allclose(tape.gradient(loss, bias), share.sum(axis=0) / 3, atol=1e-6)


def test_the_hardest_negatives_are_those_that_score_highest() -> None:
    bias = tf.constant([5.0, 3.0, 2.0, 1.0])
    query, candidate = tf.zeros([1, 1]), tf.zeros([4, 1])
    loss = losses.softmax_loss(query, candidate, bias, tf.constant([2.0]), tf.constant([2]), hardest=1)
    assert float(loss) == pytest.approx(np.log(1 + np.exp(3.0)), abs=1e-5)  # 5 against 2; 3 and 1 are left out


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # stars 5, 1, 3 predicted .5, 0, 1: margins of the pairs (5,1) .5, (5,3) -.5, (3,1) 1
        ("pairwise-hinge", (0.5 + 1.5 + 0.0) / 3),
        ("pairwise-logistic", (np.log1p(np.exp(-0.5)) + np.log1p(np.exp(0.5)) + np.log1p(np.exp(-1.0))) / 3),
        # the order by stars is .5, 1, 0: log of (e^.5 + e^1 + e^0) / e^.5, then of (e^1 + e^0) / e^1
        ("listmle", np.log((np.exp(0.5) + np.e + 1) / np.exp(0.5)) + np.log((np.e + 1) / np.e)),
    ],
)
def test_list_losses_by_hand(kind: str, expected: float) -> None:
    loss = losses.list_loss(kind, tf.constant([[5.0, 1.0, 3.0]]), tf.constant([[0.5, 0.0, 1.0]]))
    assert float(loss) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", ["pairwise-hinge", "pairwise-logistic", "listmle"])
def test_list_losses_raise_the_better_and_lower_the_worse(kind: str) -> None:
    predicted = tf.Variable([[0.1, 0.2]])
    with tf.GradientTape() as tape:
        loss = losses.list_loss(kind, tf.constant([[5.0, 1.0]]), predicted)
    better, worse = tape.gradient(loss, predicted).numpy()[0]
    assert better < 0 < worse


def test_a_list_of_equal_stars_teaches_pairs_nothing() -> None:
    assert float(losses.list_loss("pairwise-hinge", tf.constant([[3.0, 3.0]]), tf.constant([[0.0, 9.0]]))) == 0.0


# --- several positives of one query


def test_positives_of_one_query_are_no_negatives_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "LOGITS", 2 * 6)
    query, candidate, bias, _, _ = random_inputs(5, candidates=6)
    splits, target = np.array([0, 2, 3, 6, 7, 8]), np.array([0, 4, 5, 1, 2, 3, 0, 1])
    positive = tf.constant(np.random.default_rng(0).normal(size=8), tf.float32)
    hidden = tf.constant([0, 1, 1, 1, 1, 2]), tf.constant([1, 5])
    found = []
    for ours in (True, False):
        with tf.GradientTape() as tape:
            tape.watch([query, candidate, bias, positive])
            if ours:
                loss = softmax_loss(
                    query, candidate, bias, positive, tf.constant(target), hidden=hidden, splits=tf.constant(splits)
                )
            else:
                logits, parts = tf.matmul(query, candidate, transpose_b=True) + bias, []
                for q, out in enumerate([[1], [], [], [], [5]]):
                    mine = range(splits[q], splits[q + 1])
                    left = [j for j in range(6) if j not in out and j not in target[mine]]
                    for i in mine:
                        every = tf.concat([positive[i : i + 1], tf.gather(logits[q], left)], 0)
                        parts.append(tf.reduce_logsumexp(every) - positive[i])
                loss = tf.reduce_mean(parts)
        found.append([loss, *tape.gradient(loss, [query, candidate, bias, positive])])
    for ours, known in zip(*found, strict=True):
        np.testing.assert_allclose(ours, tf.convert_to_tensor(known), atol=1e-5)


# --- candidates left out


def test_hidden_candidates_are_no_negatives_and_get_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "LOGITS", 2 * 4)
    query, candidate, bias, positive, target = random_inputs(3, candidates=4)
    lists = [[1, 2], [], [0]]
    hidden = tf.constant([0, 2, 2, 3]), tf.constant([1, 2, 0])
    with tf.GradientTape() as tape:
        tape.watch(candidate)
        loss = softmax_loss(query, candidate, bias, positive, target, None, None, hidden)
    known = 0.0
    for i, out in enumerate(lists):
        scores = (candidate.numpy() @ query[i].numpy()) + bias.numpy()
        left = [scores[j] for j in range(4) if j != int(target[i]) and j not in out]
        known += np.log(np.exp([float(positive[i]), *left]).sum()) - float(positive[i])
    assert float(loss) == pytest.approx(known / 3, abs=1e-5)
    alone = [tf.constant([0, 2]), tf.constant([1, 2])]
    with tf.GradientTape() as tape:
        tape.watch(candidate)
        loss = softmax_loss(query[:1], candidate, bias, positive[:1], tf.constant([3]), None, None, tuple(alone))
    gradient = np.abs(tape.gradient(loss, candidate).numpy()).sum(1)
    assert (gradient[[1, 2, 3]] == 0).all()
    assert gradient[0] > 0


def test_a_positive_that_is_hidden_as_a_known_product_is_still_the_positive() -> None:
    inputs = random_inputs(1, candidates=3)
    everything = tf.constant([0, 3]), tf.constant([0, 1, 2])
    assert float(softmax_loss(*inputs, None, None, everything)) == pytest.approx(0, abs=1e-6)


def test_only_the_hardest_negatives_count() -> None:
    query, candidate = tf.constant([[1.0]]), tf.constant([[0.0], [3.0], [1.0], [2.0]])
    inputs = query, candidate, tf.zeros(4), tf.constant([0.5]), tf.constant([0])
    known = np.log(np.exp([0.5, 3.0, 2.0]).sum()) - 0.5
    assert float(softmax_loss(*inputs, hardest=2)) == pytest.approx(known, abs=1e-6)
    assert float(softmax_loss(*inputs, hardest=99)) == pytest.approx(float(softmax_loss(*inputs)), abs=1e-6)


# --- lists of stars

STARS = [[5.0, 3.0, 1.0], [2.0, 2.0, 4.0]]
SCORES = [[2.0, 1.5, 3.0], [0.0, 1.0, 0.5]]
MARGINS = np.array([0.5, -1.0, -1.5, 0.5, -0.5])  # of the pairs with more stars first: 5>3, 5>1, 3>1; 4>2, 4>2


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        ("pairwise-hinge", np.maximum(0, 1 - MARGINS).mean()),
        ("pairwise-logistic", np.log1p(np.exp(-MARGINS)).mean()),
        # in the order 5, 3, 1 and in the order 4, 2, 2: log Σ exp of what is left, less what is drawn
        (
            "listmle",
            np.mean(
                [
                    np.log(np.exp([2, 1.5, 3]).sum()) - 2 + np.log(np.exp([1.5, 3]).sum()) - 1.5,
                    np.log(np.exp([0.5, 0, 1]).sum()) - 0.5 + np.log(np.exp([0, 1]).sum()) - 0,
                ]
            ),
        ),
    ],
)
def test_losses_of_lists_worked_by_hand(kind: str, known: float) -> None:
    assert float(list_loss(kind, tf.constant(STARS), tf.constant(SCORES))) == pytest.approx(known, abs=1e-6)


@pytest.mark.parametrize("kind", ["pairwise-hinge", "pairwise-logistic"])
def test_a_list_of_equal_stars_has_no_pair_and_no_loss(kind: str) -> None:
    assert float(list_loss(kind, tf.constant([[3.0, 3.0]]), tf.constant([[0.0, 9.0]]))) == 0


@pytest.mark.parametrize("kind", ["pairwise-hinge", "pairwise-logistic", "listmle"])
def test_the_same_lists_twice_do_not_double_the_loss(kind: str) -> None:
    once = list_loss(kind, tf.constant(STARS), tf.constant(SCORES))
    twice = list_loss(kind, tf.constant(STARS * 2), tf.constant(SCORES * 2))
    assert float(twice) == pytest.approx(float(once), rel=1e-6)
