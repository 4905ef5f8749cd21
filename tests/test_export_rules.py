"""The rules of a list in the exported model are those of `amzrec recommend`, on the checkerboard with features."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amzrec.answers.recommender import Recommender
from amzrec.arrays import Lists
from amzrec.commands.export import export
from amzrec.commands.recommend import recommend
from amzrec.exports import check
from amzrec.exports.questions import Question
from amzrec.store.dataset import open_dataset
from amzrec.store.run import Run
from conftest import SIDE, add_features, write_checkerboard
from runs import parity_vectors, random_vectors, write_run

pytestmark = pytest.mark.long

COLOURS = ("red", "green", "blue")
CUSTOMERS = ["u00", "u03", "u11", "nobody"]
# product p has the colour p mod 3, the size p mod 2 where p is below 10, and p = 0 has two colours
FEATURES = [
    [f"colour={COLOURS[p % 3]}", *([f"size={p % 2}"] if p < 10 else []), *(["colour=blue"] if p == 0 else [])]
    for p in range(SIDE)
]


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Any]:
    """A run whose products have colours and sizes, with short histories, and its export, checked and loaded."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("rules")
    board = write_checkerboard(folder / "board")
    add_features(board, [[], *FEATURES])
    dataset = open_dataset(board)
    vectors = random_vectors(dataset, np.random.default_rng(5))
    seen = Lists.of(np.arange(1, SIDE + 1), np.arange(1, SIDE + 1, dtype=np.int32), SIDE + 1)  # each its own number
    first = vectors.seen.slots(np.arange(1, SIDE + 1))[:SIDE]
    short = {name: getattr(vectors, name)[first] for name in ("seen_stars", "seen_part")}
    vectors = dataclasses.replace(vectors, seen_offsets=seen.offsets, seen_product=seen.items, **short)
    run = write_run(folder / "run", dataset, vectors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("amzrec.commands.export.without_scann", lambda: "not needed")
        out = export(run, folder / "out")
    return run, tf.saved_model.load(str(out / "saved_model"))


def asked(model: Any, question: Question, k: int = 10, customers: Any = CUSTOMERS, exclude: str = "") -> Any:
    """What the signature answers."""
    import tensorflow as tf

    found = model.signatures["recommend_by_rules"](
        customer_id=tf.constant(customers),
        k=tf.constant(k),
        exclude=tf.constant([[exclude]] * len(customers)),
        **{name: tf.constant(value) for name, value in question.inputs().items()},
    )
    return {name: value.numpy() for name, value in found.items()}


def lists(found: Any) -> list[list[str]]:
    """The product ids of each customer, without the padding."""
    return [[p.decode() for p in line[:n]] for line, n in zip(found["product_id"], found["count"], strict=True)]


QUESTIONS = [
    Question(),
    Question(diversify=0.3),
    Question(diversify=1.0),
    Question(at_most=(("colour", 1),)),
    Question(at_most=(("colour", 2), ("size", 1))),
    Question(at_most=(("colour", 3), ("colour", 2))),
    Question(only=("colour=red",)),
    Question(only=("colour=red", "colour=blue", "size=0")),
    Question(never=("colour=green", "size=1")),
    Question(diversify=0.6, at_most=(("size", 1),), only=("colour=red", "colour=green"), never=("size=0",)),
]


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 5, 30])
@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_the_exported_model_follows_the_rules_as_recommend_does(coloured: Any, question: Question, k: int) -> None:
    run, model = coloured
    found = asked(model, question, k, exclude="p04")
    assert found["product_id"].shape == (len(CUSTOMERS), min(k, SIDE))
    for line, customer in enumerate(CUSTOMERS):
        flags: dict[str, Any] = {"at_most": [f"{name}={most}" for name, most in question.at_most]}
        flags |= {"only": list(question.only), "never": list(question.never)}
        wanted = recommend(customer, run, k=k, exclude=["p04"], diversify=question.diversify, **flags)
        known = wanted["recommendations"]
        assert lists(found)[line] == [each["product_id"] for each in known]
        for name in ("score", "stars"):
            np.testing.assert_allclose(found[name][line, : len(known)], [e[name] for e in known], rtol=1e-3, atol=1e-3)
            assert not found[name][line, len(known) :].any()


@pytest.mark.slow
def test_features_that_no_product_has_match_nothing(coloured: Any) -> None:
    model = coloured[1]
    everything = lists(asked(model, Question(), SIDE))
    assert lists(asked(model, Question(only=("colour=pink",)), SIDE)) == [[]] * 4, "no product is pink"
    assert lists(asked(model, Question(only=("shape",)), SIDE)) == [[]] * 4
    assert lists(asked(model, Question(never=("colour=pink", "shape=2")), SIDE)) == everything
    assert lists(asked(model, Question(at_most=(("shape", 1),)), SIDE)) == everything
    red = lists(asked(model, Question(only=("colour=red",)), SIDE))
    assert lists(asked(model, Question(only=("colour=red", "colour=pink")), SIDE)) == red, "red or pink"


@pytest.mark.slow
def test_rules_that_make_no_sense_are_refused(coloured: Any) -> None:
    import tensorflow as tf

    for question, says in (
        (Question(diversify=1.5), "from 0 to 1"),
        (Question(diversify=-0.5), "from 0 to 1"),
        (Question(at_most=(("colour", 0),)), "at_most_count must be at least 1"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=says):
            asked(coloured[1], question)
    with pytest.raises(tf.errors.InvalidArgumentError, match="k must be at least 1"):
        asked(coloured[1], Question(), k=0)


@pytest.mark.slow
def test_no_customers_get_no_lists(coloured: Any) -> None:
    import tensorflow as tf

    inputs = {
        name: tf.constant(value) for name, value in Question(diversify=0.5, at_most=(("size", 1),)).inputs().items()
    }
    nobody = {"customer_id": tf.constant([], tf.string), "exclude": tf.zeros([0, 1], tf.string), "k": tf.constant(3)}
    found = coloured[1].signatures["recommend_by_rules"](**nobody, **inputs)
    assert found["product_id"].shape == (0, 3)


@pytest.mark.slow
def test_a_list_that_is_as_varied_as_can_be_changes_sides(tmp_path: Path) -> None:
    """On the understood checkerboard all products of one parity point the same way, and those of the other apart."""
    from amzrec.exports.saved_model import Served, tf

    vectors = parity_vectors(open_dataset(write_checkerboard(tmp_path / "board")))
    empty = dataclasses.replace(vectors, seen_offsets=np.zeros(SIDE + 2, np.int64), seen_product=np.zeros(0, np.int32))
    served = Served(empty, tmp_path, stars=False)
    inputs = {name: tf.constant(value) for name, value in Question(diversify=0.9).inputs().items()}
    found = served.recommend_by_rules(tf.constant(["u00"]), tf.constant(2), tf.constant([[""]]), **inputs)
    assert [p.numpy().decode() for p in found["product_id"][0]] == ["p00", "p01"]


@pytest.mark.slow
def test_the_check_refuses_lists_that_break_the_rules(coloured: Any) -> None:
    run, model = coloured
    python = Recommender(run.vectors)
    sample = check.draw_sample(python, scann=False)
    assert len(sample.by_rules) == 3
    plain = [
        {n: v.tolist() if v.dtype != object else [[t.decode() for t in line] for line in v] for n, v in found.items()}
        for found in (
            asked(model, Question(), sample.request["k"], sample.request["customers"]) for _ in sample.by_rules
        )
    ]
    assert any("leave out" in fault for fault in check.rule_faults({"by_rules": plain}, sample, python))
