"""The graphs of ONNX answer as the vectors do, in a runtime that knows nothing of amzrec."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amzrec.answers.recommender import Recommender
from amzrec.commands.export import export
from amzrec.errors import AmzrecError
from amzrec.exports import onnx_graphs
from amzrec.store.dataset import open_dataset
from amzrec.store.vectors import Vectors
from runs import parity_vectors, random_vectors, with_attention, write_run

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra dev")
NOTHING = np.zeros(0, np.float32)


@pytest.fixture(scope="module")
def vectors(checkerboard: Path) -> Vectors:
    return random_vectors(open_dataset(checkerboard), np.random.default_rng(8))


def ask(file: Path, **inputs: Any) -> list[Any]:
    """What the runtime answers."""
    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_stars_are_those_of_the_vectors_clipped_to_the_scale(vectors: Vectors, tmp_path: Path, layers: int) -> None:
    kept = dataclasses.replace(vectors, layers=vectors.layers[2 - layers :])
    if layers == 1:  # straight from the features to the stars
        kept = dataclasses.replace(vectors, layers=[(vectors.layers[0][0][:, :1], np.ones(1, np.float32))])
    onnx_graphs.save(kept, tmp_path)
    query, product = np.asarray(kept.rating_query), np.asarray(kept.rating_candidate)
    rows = np.arange(len(product), dtype=np.int32)
    (stars,) = ask(tmp_path / onnx_graphs.RATING, query=query, product=product)
    np.testing.assert_allclose(stars, Recommender(kept).rate(query, rows), rtol=1e-5, atol=1e-5)
    assert {1.0, 5.0} & set(stars.tolist()), "some are clipped"
    assert len(set(stars.tolist())) > 5


def test_the_understood_checkerboard_has_five_stars_within_a_parity_and_one_across(
    checkerboard: Path, tmp_path: Path
) -> None:
    vectors = parity_vectors(open_dataset(checkerboard))
    onnx_graphs.save(vectors, tmp_path)
    (stars,) = ask(
        tmp_path / onnx_graphs.RATING,
        query=vectors.rating_query[[1, 1, 2]],
        product=vectors.rating_candidate[[1, 2, 2]],
    )
    assert stars.tolist() == [5, 1, 5]


@pytest.mark.parametrize("recent", [None, [1.0, 0.5, 0.25]], ids=["all", "recent"])
@pytest.mark.parametrize("customer", [0, 4])
@pytest.mark.parametrize("liked", [[], [2], [5, 2, 9, 7, 11]], ids=len)
def test_a_customer_after_more_reviews_is_that_of_the_vectors(
    vectors: Vectors, tmp_path: Path, customer: int, liked: list[int], recent: list[float] | None
) -> None:
    weights = None if recent is None else np.array(recent, np.float32)
    kept = dataclasses.replace(vectors, recent_weights=weights)
    onnx_graphs.save(kept, tmp_path)
    model, rows = Recommender(kept), np.array(liked, np.int32)
    stars = np.array([np.nan, 5, 1, np.nan, 4], np.float32)[: len(rows)]
    worth = np.array([1, 0.5, 1, 0.2, 1], np.float32)[: len(rows)]
    inputs = onnx_graphs.inputs_of(model, customer, rows, stars, worth)
    retrieval, rating = ask(tmp_path / onnx_graphs.FOLD_IN, **inputs)
    wanted = model.fold_in(customer, rows, stars, worth)
    np.testing.assert_allclose(retrieval, wanted.retrieval, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(rating, wanted.rating, rtol=1e-5, atol=1e-5)


def test_a_new_customer_who_clicked_two_products_is_their_bags_over_the_root_of_three(
    checkerboard: Path, tmp_path: Path
) -> None:
    vectors = parity_vectors(open_dataset(checkerboard))  # products 1 and 3 are [1, 0]
    onnx_graphs.save(vectors, tmp_path)
    nan = np.full(2, np.nan, np.float32)
    inputs = onnx_graphs.inputs_of(Recommender(vectors), 0, np.array([1, 3], np.int32), nan, np.ones(2, np.float32))
    retrieval, _ = ask(tmp_path / onnx_graphs.FOLD_IN, **inputs)
    np.testing.assert_allclose(retrieval, [2 / 3**0.5, 0, 1], rtol=1e-6)


def test_what_a_run_cannot_do_is_not_written(vectors: Vectors, tmp_path: Path) -> None:
    without = dataclasses.replace(vectors, history_bag=np.zeros_like(vectors.history_bag))
    onnx_graphs.save(without, tmp_path)
    assert [file.name for file in (tmp_path / "onnx").iterdir()] == ["rating.onnx"]
    (tmp_path / "clicks").mkdir()
    clicks = dataclasses.replace(vectors, head=dataclasses.replace(vectors.head, mean=None), layers=[])
    onnx_graphs.save(clicks, tmp_path / "clicks")
    assert [file.name for file in (tmp_path / "clicks" / "onnx").iterdir()] == ["fold_in.onnx"]
    (tmp_path / "attention").mkdir()
    onnx_graphs.save(with_attention(vectors), tmp_path / "attention")
    assert [file.name for file in (tmp_path / "attention" / "onnx").iterdir()] == ["rating.onnx"]


@pytest.mark.parametrize("part", ["rating", "fold_in"])
def test_a_graph_that_differs_from_the_vectors_is_refused(
    vectors: Vectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    honest = getattr(onnx_graphs, part)
    wrong = dataclasses.replace(vectors, head=dataclasses.replace(vectors.head, mean=1.0, low=0.0, temperature=2.0))
    monkeypatch.setattr(onnx_graphs, part, lambda _: honest(wrong))
    with pytest.raises(AmzrecError, match=f"onnx/{part}.onnx .*Nothing was written"):
        onnx_graphs.save(vectors, tmp_path)


def test_without_the_package_nothing_is_written_and_the_remedy_is_said(
    checkerboard: Path, vectors: Vectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx.reference", None)
    with pytest.raises(AmzrecError, match=r"pip install 'amzrec\[onnx\]'"):
        export(write_run(tmp_path / "run", checkerboard, vectors), tmp_path / "out", onnx=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_export_writes_both(
    checkerboard: Path, vectors: Vectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amzrec.commands.export.without_scann", lambda: "not needed")
    monkeypatch.setattr("amzrec.exports.check.check_export", lambda folder, vectors, scann: 0)
    out = export(write_run(tmp_path / "run", checkerboard, vectors), tmp_path / "out", onnx=True)
    assert sorted(file.name for file in (out / "onnx").iterdir()) == ["fold_in.onnx", "rating.onnx"]
