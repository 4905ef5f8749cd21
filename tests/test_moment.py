"""The moment: what a customer gave near a time moves the stars of that time, as worked out by hand, chosen on valid."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from amzrec.answers.recommender import Recommender
from amzrec.arrays import Lists
from amzrec.commands.evaluate import evaluate
from amzrec.commands.train import train
from amzrec.config import PrepareConfig, TrainConfig
from amzrec.store import moment as moments
from amzrec.store.moment import Moment, nearby, spans
from amzrec.training.residuals import Residuals, choose_moment, shares_of
from fits import dataset_of, random_reviews
from runs import random_vectors

HALF_AFTER = 100 / np.log(2)  # seconds after which exp(−t / s) is ½ at 100 s
BOTH = Moment(seconds=(HALF_AFTER,), shares=(2.0,), shrinkage=1.0, past_only=False)
TIMES = np.array([0, 100, 300])
GIVEN = np.array([1.0, -2.0, 4.0])  # stars beyond what was expected


def near(moment: Moment, *times: int) -> np.ndarray:
    """What one customer's three reviews say of these times."""
    reviews = spans(Lists(np.array([0, 3]), np.arange(3)), np.zeros(len(times), np.int64))
    return nearby(reviews, GIVEN, TIMES, np.array(times), moment)[:, 0]


def test_residuals_count_half_after_each_half_life_on_both_sides() -> None:
    known = [(1 - 2 / 2 + 4 / 8) / (1 + 1 / 2 + 1 / 8 + 1), (1 / 4 - 2 / 2 + 4 / 2) / (1 / 4 + 1 / 2 + 1 / 2 + 1)]
    np.testing.assert_allclose(near(BOTH, 0, 200), known, rtol=1e-12)


def test_what_comes_later_is_left_out_where_only_the_past_is_known() -> None:
    past = dataclasses.replace(BOTH, past_only=True)
    known = [1 / 2, (1 / 4 - 2 / 2) / (1 / 4 + 1 / 2 + 1), 0]
    np.testing.assert_allclose(near(past, 0, 200, -50), known, rtol=1e-12)


def test_blocks_of_queries_give_what_one_block_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = near(BOTH, *range(0, 500, 50))
    monkeypatch.setattr(moments, "AT_ONCE", 4)  # more than one customer's reviews, less than two's
    np.testing.assert_allclose(near(BOTH, *range(0, 500, 50)), whole, rtol=1e-12)


def test_a_share_below_zero_is_left_out() -> None:
    says = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    np.testing.assert_allclose(shares_of(says, np.array([1.0, -1.0, 0.5])), [0.75, 0, 0], rtol=1e-2)
    assert not shares_of(says, -np.ones(3)).any()


@pytest.mark.parametrize("size", [0.0, 1e-300, 1e-170, 1e-8])
def test_what_is_said_from_very_far_has_no_share(size: float) -> None:
    says = np.full((3, 2), size)  # e^−576 is what is left of a review of the day before in a kernel of 150 s
    assert not shares_of(says, np.ones(3)).any()
    alone = shares_of(np.column_stack([says, np.ones(3)]), np.ones(3))
    np.testing.assert_allclose(alone, [0, 0, 1], rtol=1e-2)


def moody(mood: float, customers: int = 60) -> Residuals:
    """Customers with two sittings ten days apart, two fitted reviews and one valid one in each, by the minute."""
    rng = np.random.default_rng(1)
    moods = np.repeat(rng.choice([-mood, mood], (customers, 2)), 3, axis=1).ravel() + rng.normal(0, 0.5, customers * 6)
    times = (np.arange(6) % 3 * 60 + np.arange(6) // 3 * 864_000)[None].repeat(customers, 0).ravel()
    customer, valid = np.repeat(np.arange(customers, dtype=np.int32), 6), np.arange(customers * 6) % 3 == 1
    fitted = Lists.of(customer[~valid], np.arange((~valid).sum()), customers)
    near = spans(fitted, customer[valid])
    return Residuals(near, moods[~valid], times[~valid], moods[valid], times[valid], customer[valid])


def test_a_mood_that_lasts_a_sitting_is_found() -> None:
    found = choose_moment(moody(1.0), past_only=False)
    assert found is not None
    residuals = moody(1.0)
    says = nearby(residuals.near, residuals.fitted, residuals.times, residuals.moments, found) @ found.shares
    assert np.square(residuals.valid - says).mean() < 0.5 * np.square(residuals.valid).mean()  # .25 of noise, 1 of mood


def test_no_moment_is_chosen_where_residuals_are_noise_or_few() -> None:
    assert choose_moment(moody(0.0), past_only=False) is None
    assert choose_moment(moody(1.0, customers=20), past_only=False) is None


def test_only_fitted_reviews_with_stars_move_a_customer() -> None:
    vectors = random_vectors(dataset_of(random_reviews()), np.random.default_rng(0))
    alone = dataclasses.replace(
        vectors,
        seen_offsets=np.concatenate([[0, 0], np.full(len(vectors.customer_ids) - 1, 4)]),
        seen_product=np.array([1, 2, 3, 1], np.int32),
        seen_stars=np.array([5, np.nan, 1, 2], np.float32),
        seen_part=np.array([0, 0, 1, 2], np.uint8),
        seen_time=np.array([0, 0, 100, 100]),
        head=dataclasses.replace(vectors.head, moment=BOTH, fit_tags=(0, 1)),
    )
    model = Recommender(alone)
    query = np.repeat(model.query(1).rating[None], 2, axis=0)
    left = np.array([5, 1]) - model.rate(query, np.array([1, 3]), clip=False)
    known = 2 * (left[0] / 2 + left[1]) / (1 / 2 + 1 + 1)
    rows = np.array([1, 2, 1], np.int32)
    np.testing.assert_allclose(model.moved(rows, np.array([100, 100, 100])), [known, 0, known], rtol=1e-5)
    assert not Recommender(vectors).moved(rows, np.zeros(3)).any()  # a run without a moment


@pytest.fixture(scope="module")
def sittings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 customers in two sittings of six reviews: a mood for each, and products that come in pairs."""
    rng, file = np.random.default_rng(3), tmp_path_factory.mktemp("sittings") / "reviews.csv"
    lines = ["customer_id,product_id,stars,timestamp"]
    for customer in range(150):
        pairs = rng.permutation(20)[:6]
        for sitting in range(2):
            stars = 3 + rng.choice([-1, 1])
            for place in range(6):
                product = 2 * pairs[3 * sitting + place // 2] + place % 2
                lines.append(f"c{customer},p{product},{stars},{1_000_000_000 + sitting * 864_000 + place * 60}")
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.long
def test_training_chooses_the_moment_and_the_memory_and_evaluation_says_what_they_are_worth(
    sittings: Path, tmp_path: Path, eagerly: None
) -> None:
    settings = {"dim": 6, "head": (), "epochs": 2}
    run = train(sittings, tmp_path / "run", TrainConfig.of(**settings))
    assert run.info.moment is not None
    assert not run.info.moment["past_only"]
    assert run.info.memory is not None
    document = evaluate(run)
    assert document["model"]["rating"]["rmse"] < 0.8 * document["without_moment"]["rmse"]
    assert "stars before and after" in document["protocol"]["query_context"]
    assert json.loads((run.path / "metrics.json").read_text())["without_moment"] == document["without_moment"]
    now = document["as_of_now"]
    assert now["rating"]["rmse"] == pytest.approx(document["without_moment"]["rmse"], rel=0.01)  # a trend apart
    plain = train(sittings, tmp_path / "plain", TrainConfig.of(**settings, moment=False, memory=False))
    assert plain.info.moment is plain.info.memory is None
    without = evaluate(plain)
    assert document["without_moment"]["rmse"] == pytest.approx(without["model"]["rating"]["rmse"], rel=1e-5)
    assert document["model"]["ranking"]["ndcg@10"] > 2 * without["model"]["ranking"]["ndcg@10"]


@pytest.mark.long
def test_only_the_past_moves_the_stars_of_a_split_by_time(sittings: Path, tmp_path: Path, eagerly: None) -> None:
    run = train(
        sittings,
        tmp_path / "run",
        TrainConfig.of(dim=6, head=(), epochs=1),
        prepare=PrepareConfig.of(split="leave-last-out"),
    )
    assert run.info.moment is not None
    assert run.info.moment["past_only"]
    assert "earlier stars" in evaluate(run)["protocol"]["query_context"]


@pytest.mark.long
def test_answers_as_of_now_read_all_time_where_that_ranks_valid_better(
    sittings: Path, tmp_path: Path, eagerly: None
) -> None:
    """Products of one year never come back the next; a random split asks for both years, one by time for the last."""
    rng, file = np.random.default_rng(4), tmp_path / "years.csv"
    lines = ["customer_id,product_id,timestamp"]
    for number in range(3000):
        year, day = divmod(number, 1500)
        favourite = rng.integers(5) if rng.random() < 0.8 else rng.integers(5, 30)
        lines.append(f"c{rng.integers(400)},p{year}-{favourite},{1_000_000_000 + (year * 365 + day % 365) * 86_400}")
    file.write_text("\n".join(lines) + "\n")
    chosen = {}
    for split in ("random", "temporal"):
        config = TrainConfig.of(dim=6, head=(), epochs=1, memory=False)
        run = train(file, tmp_path / split, config, prepare=PrepareConfig.of(split=split))
        assert run.info.half_life is not None
        chosen[split] = run.info.all_time_now
        vectors = run.vectors
        assert vectors.context is not None
        is_last = np.allclose(vectors.context[-1], 0, atol=1e-5)
        assert is_last != run.info.all_time_now
        assert "as_of_now" in evaluate(run)
    assert chosen == {"random": True, "temporal": False}
