"""The index of a run is exact where that is fast enough, and else ScaNN tuned to a recall, built once and kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from amzrec.answers import scann, tuning
from amzrec.answers.recommender import Recommender
from amzrec.answers.scann import ScannIndex, without_scann
from amzrec.answers.tuning import Chosen, choose, tune
from amzrec.cli.app import app
from amzrec.commands.recommend_all import recommend_all
from amzrec.config import ServeConfig
from amzrec.errors import AmzrecError
from amzrec.store.dataset import open_dataset
from amzrec.store.run import Run
from runs import random_vectors, write_run
from services import served

needs_scann = pytest.mark.skipif(without_scann() is not None, reason=f"no ScaNN here: {without_scann()}")


@pytest.fixture
def run(checkerboard: Path, tmp_path: Path) -> Run:
    dataset = open_dataset(checkerboard)
    return write_run(tmp_path / "run", dataset, random_vectors(dataset, np.random.default_rng(2)))


def chosen(run: Run, kind: str, said: list[str], cache: Path, recall: float = 0.98) -> Chosen:
    return choose(Recommender(run.vectors), run.path, kind, recall, cache, said.append)


@pytest.mark.parametrize("kind", ["auto", "exact"])
def test_small_catalogues_are_searched_exactly_without_a_word(
    run: Run, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scann, "scann_ops", lambda: pytest.fail("imported"))
    said = list[str]()
    found = chosen(run, kind, said, tmp_path / "cache")
    assert found.document() == {"kind": "exact"}
    assert not said
    assert not (tmp_path / "cache").exists()


def test_where_scann_cannot_be_used_auto_is_exact_and_says_why(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scann, "avx2", lambda: False)
    monkeypatch.setattr(tuning, "EXACT_UNTIL", 0)
    said = list[str]()
    assert chosen(run, "auto", said, tmp_path).document() == {"kind": "exact"}
    assert "AVX2" in said[0]
    with pytest.raises(AmzrecError, match=r"AVX2.*--index exact"):
        chosen(run, "scann", said, tmp_path)


@needs_scann
def test_an_index_is_built_once_and_kept(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "EXACT_UNTIL", 20)
    said, cache = list[str](), tmp_path / "cache"
    first = chosen(run, "auto", said, cache)
    assert first.document()["kind"] == "scann"
    assert [text.split(" ")[0] for text in said] == ["building", "ScaNN"]
    assert [path.name[:6] for path in cache.iterdir()] == ["scann-"], "nothing is left beside it"
    build = ScannIndex.build
    monkeypatch.setattr(ScannIndex, "build", lambda *_, **__: pytest.fail("built again"))
    second = chosen(run, "auto", said, cache)
    assert second == dataclasses.replace(first, recommender=second.recommender)
    query = run.vectors.retrieval_query[1:4]
    for one, other in zip(*(each.recommender.index.search(query, 5) for each in (first, second)), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(pytest.fail.Exception):
        chosen(run, "auto", said, cache, recall=0.9)  # another index, for another recall
    monkeypatch.setattr(ScannIndex, "build", build)
    (next(cache.iterdir()) / "scann_config.pb").write_bytes(b"damaged")
    assert chosen(run, "auto", said, cache).tuned == first.tuned
    assert said[-2].startswith("building")


@needs_scann
def test_an_index_that_cannot_be_kept_still_answers(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    said = list[str]()
    assert chosen(run, "scann", said, tmp_path / "file").tuned is not None
    assert "could not be kept" in said[1]


@needs_scann
@pytest.mark.parametrize("wanted", [0.6, 0.97])
def test_the_least_effort_that_reaches_the_recall_is_chosen(wanted: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scann, "TREE_FROM", 0)
    rng = np.random.default_rng(3)
    index = ScannIndex.build(rng.normal(size=(21_000, 16)).astype(np.float32), np.arange(1, 21_001, dtype=np.int32))
    queries = rng.normal(size=(200, 16)).astype(np.float32)
    tuned = tune(index, queries, wanted)
    assert min(tuned.recall_at_10, tuned.recall_at_100) >= wanted - 0.03, "on queries that nothing was chosen by"
    by_leaves = [each for each in tuned.curve if each.rescored == max(tuning.LEASTS)]
    assert [each.leaves for each in by_leaves] == sorted(each.leaves for each in by_leaves)
    assert all(each.recall < (1 + wanted) / 2 for each in by_leaves[:-1]), "fewer leaves would have been enough"
    for k, chosen_one in ((10, tuned.least), (100, 100 * tuned.times)):
        rest = [each for each in tuned.curve if each.k == k and each.rescored < max(tuning.LEASTS)]
        assert [each.rescored for each in rest if each.recall >= wanted] == [chosen_one], "the first one that does"
    exact = index.whole.search(queries[1::2], 100)[0]
    found = index.trying(tuned.effort).search(queries[1::2], 100)[0]
    recall = np.mean([len(set(a) & set(b)) / 100 for a, b in zip(found, exact, strict=True)])
    assert tuned.recall_at_100 == pytest.approx(recall)


@needs_scann
def test_the_service_tells_which_index_answers(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMZREC_CACHE", str(tmp_path / "cache"))

    def told(**options: Any) -> tuple[Any, Any]:
        with served(run.path, ServeConfig(events="none", **options)) as client:
            entries = client.get("/recommend/u03?k=5").json()["recommendations"]
            return client.get("/run").json()["runs"][0]["index"], [entry["product_id"] for entry in entries]

    exact, with_scann = told(), told(index="scann", recall=0.9)
    assert exact[0] == {"kind": "exact"}
    assert with_scann[0]["kind"] == "scann"
    assert with_scann[0]["wanted"] == 0.9
    assert with_scann[0]["recall_at_10"] == 1.0
    assert with_scann[0]["curve"]
    assert with_scann[1] == exact[1]


@needs_scann
def test_everyone_is_recommended_to_by_scann_as_exactly(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMZREC_CACHE", str(tmp_path / "cache"))
    exact, approximate = (
        pq.read_table(recommend_all(run, tmp_path / f"{index}.parquet", k=4, index=index)).to_pylist()
        for index in ("exact", "scann")
    )
    assert len(list((tmp_path / "cache").glob("scann-*"))) == 1
    assert len(exact) == 80
    for one, other in zip(exact, approximate, strict=True):
        assert one["product_id"] == other["product_id"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)


def test_an_index_that_there_is_not_is_refused_before_anything_is_written(run: Run, tmp_path: Path) -> None:
    with pytest.raises(AmzrecError, match=r"index.*auto \| exact \| scann"):
        recommend_all(run, tmp_path / "all.parquet", index="best")
    assert not (tmp_path / "all.parquet").exists()
    done = CliRunner().invoke(app, ["recommend", "u03", "--run", str(run.path), "--index", "scann"])
    assert done.exit_code == 1
    assert "--index goes with --all" in done.stderr
