"""Both indexes answer what a sort of all inner products answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amzrec.answers import index as index_module
from amzrec.answers import scann
from amzrec.answers.index import ExactIndex, Index, find
from amzrec.answers.scann import WIDE, Effort, ScannIndex, Slow, without_scann
from amzrec.arrays import Lists
from amzrec.errors import AmzrecError
from amzrec.store.memory import Votes
from bounds import assert_no_near_ties, assert_within, product_bound

ROOT = Path(__file__).resolve().parents[1]
needs_scann = pytest.mark.skipif(without_scann() is not None, reason=f"no ScaNN here: {without_scann()}")


def vectors(count: int, width: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def by_sorting(candidates: Any, rows: Any, query: Any, k: Any, gone: Any = ()) -> Any:
    """Every candidate scored in double precision and sorted: the slow obvious answer."""
    left = [
        (-float(query.astype(float) @ c), int(r))
        for c, r in zip(candidates.astype(float), rows, strict=True)
        if r not in gone
    ]
    best = sorted(left)[:k]
    return [r for _, r in best] + [0] * (k - len(best)), [-s for s, _ in best] + [-np.inf] * (k - len(best))


class Contract:
    """What every index must do; one class of tests per index inherits it."""

    def make(self, candidates: np.ndarray, rows: np.ndarray) -> Index:
        raise NotImplementedError

    def check(self, count: Any, k: Any, gone: Any = None, queries: Any = 7, seed: Any = 1) -> None:
        candidates = vectors(count)
        rows = np.sort(np.random.default_rng(seed).permutation(3 * count + 1)[:count] + 1).astype(np.int32)
        asked = vectors(queries, seed=seed + 1)
        exclude = None if gone is None else [np.array(gone(rows, i), np.int32) for i in range(queries)]
        top, best = self.make(candidates, rows).search(asked, k, exclude)
        assert top.dtype == np.int32
        assert best.dtype == np.float32
        assert top.shape == best.shape == (queries, k)
        for i, query in enumerate(asked):
            expected, scores = by_sorting(candidates, rows, query, k, set(exclude[i].tolist()) if exclude else ())
            assert top[i].tolist() == expected
            np.testing.assert_allclose(best[i], scores, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("count", [1, 2, 15, 16, 300, 3000])
    @pytest.mark.parametrize("k", [1, 10])
    def test_the_best_come_first_and_short_answers_are_padded_with_row_0(self, count: Any, k: Any) -> None:
        self.check(count, k)

    def test_k_of_all_candidates_sorts_them(self) -> None:
        self.check(40, 40)

    def test_k_larger_than_the_catalogue_pads(self) -> None:
        self.check(40, 55)

    def test_no_queries_give_no_answers(self) -> None:
        self.check(40, 3, queries=0)

    def test_k_0_gives_empty_answers(self) -> None:
        self.check(40, 0)

    def test_excluded_rows_are_never_answered(self) -> None:
        self.check(300, 10, lambda rows, i: rows[: i * 7])

    def test_exclusions_may_be_wider_than_scann_is_asked_for(self) -> None:
        self.check(3000, 10, lambda rows, i: rows[: 250 * i])

    def test_all_candidates_excluded_leaves_only_padding(self) -> None:
        self.check(20, 5, lambda rows, i: rows)

    def test_excluded_rows_that_are_no_candidates_or_repeat_do_no_harm(self) -> None:
        self.check(50, 5, lambda rows, i: [0, 10**6, *rows[:3], *rows[:3]])

    @pytest.mark.parametrize("share", [0.01, 0.2, 0.6, 0.99, 1.0])
    def test_candidates_that_are_not_kept_are_never_answered_and_all_others_are(self, share: float) -> None:
        count, k = 3000, 10
        candidates, rows, asked = vectors(count), np.arange(1, 2 * count, 2, dtype=np.int32), vectors(6, seed=4)
        keep = np.random.default_rng(5).random(count) < share
        twice = np.random.default_rng(6).random(count) < 0.9
        gone = [rows[: i * 7] for i in range(6)]
        index = self.make(candidates, rows)
        for narrowed, left in (
            (index.keeping(keep), keep),
            (index.keeping(keep).keeping(twice), keep & twice),
            (index.keeping(twice).keeping(keep), keep & twice),
        ):
            top, best = narrowed.search(asked, k, gone)
            for i, query in enumerate(asked):
                without = set(gone[i].tolist()) | set(rows[~left].tolist())
                expected, scores = by_sorting(candidates, rows, query, k, without)
                assert top[i].tolist() == expected
                np.testing.assert_allclose(best[i], scores, rtol=1e-5, atol=1e-5)
        assert index.search(asked, k)[0].tolist() == self.make(candidates, rows).search(asked, k)[0].tolist()

    def test_where_nothing_is_kept_nothing_is_answered(self) -> None:
        index = self.make(vectors(50), np.arange(1, 51, dtype=np.int32))
        top, best = index.keeping(np.zeros(50, np.bool_)).search(vectors(2), 3)
        assert top.tolist() == [[0] * 3] * 2
        assert np.isneginf(best).all()

    @pytest.mark.parametrize("share", [0.1, 0.9])
    def test_what_is_added_to_all_scores_decides_and_keeps_with_what_is_kept(self, share: float) -> None:
        candidates, rows, asked = vectors(400), np.arange(1, 401, dtype=np.int32), vectors(5, seed=4)
        added = 3 * vectors(400, 1, seed=7)[:, 0]
        keep = np.random.default_rng(5).random(400) < share
        wide = np.column_stack([candidates, added])
        index = self.make(candidates, rows)
        for moved in (index.shifted(added).keeping(keep), index.keeping(keep).shifted(added)):
            top, best = moved.search(asked, 9)
            for i, query in enumerate(asked):
                expected, scores = by_sorting(wide, rows, np.append(query, 1), 9, set(rows[~keep].tolist()))
                assert top[i].tolist() == expected
                np.testing.assert_allclose(best[i], scores, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("count", [40, 3000])
    def test_votes_count_in_full_also_for_products_that_score_least(self, count: int) -> None:
        candidates, rows, asked = vectors(count), np.arange(1, count + 1, dtype=np.int32), vectors(4, seed=4)
        voted = [
            np.sort(np.argsort(query @ candidates.T)[: 3 + i]).astype(np.int32) + 1 for i, query in enumerate(asked)
        ]
        voted[1] = np.append(voted[1], np.int32(count + 5))  # a product that is no candidate
        votes = Votes(Lists.join(voted), np.full(sum(map(len, voted)), 99, np.float32))
        keep = np.arange(count) % 10 > 0
        index = self.make(candidates, rows)
        for narrowed, left in ((index, np.ones(count, np.bool_)), (index.keeping(keep), keep)):
            top, best = narrowed.search(asked, 12, [rows[:2]] * 4, votes)
            for i, query in enumerate(asked):
                scored = np.column_stack([candidates, np.isin(rows, voted[i])])
                gone = {1, 2} | set(rows[~left].tolist())
                expected, scores = by_sorting(scored, rows, np.append(query, 99), 12, gone)
                assert top[i].tolist() == expected
                np.testing.assert_allclose(best[i], scores, rtol=1e-4, atol=1e-4)

    def test_a_row_listed_twice_is_refused(self) -> None:
        with pytest.raises(ValueError, match="unique"):
            self.make(vectors(2), np.array([4, 4], np.int32))


class TestExactIndex(Contract):
    def make(self, candidates: Any, rows: Any) -> Any:
        return ExactIndex(candidates, rows)

    def test_no_candidates_answer_nothing(self) -> None:
        top, best = ExactIndex(vectors(0), np.zeros(0, np.int32)).search(vectors(2), 3, [np.zeros(0, np.int32)] * 2)
        assert top.tolist() == [[0] * 3] * 2
        assert np.isneginf(best).all()

    @pytest.mark.parametrize("k", [1, 3, 200])
    def test_equal_scores_come_by_ascending_row(self, k: Any) -> None:
        candidates = np.ones((1000, 2), np.float32)
        candidates[777] = 2
        top, _ = ExactIndex(candidates, np.arange(1, 1001, dtype=np.int32)).search(np.ones((1, 2), np.float32), k)
        assert top[0].tolist() == ([778] + [r for r in range(1, 1001) if r != 778])[:k]

    def test_blocks_of_queries_give_the_answers_of_one_block(self, monkeypatch: pytest.MonkeyPatch) -> None:
        candidates, rows, asked = vectors(100), np.arange(1, 101, dtype=np.int32), vectors(9, seed=3)
        exact = ExactIndex(candidates, rows)
        gone = [np.arange(i, dtype=np.int32) for i in range(9)]
        whole, scores = exact.search(asked, 4, gone)
        monkeypatch.setattr(index_module, "BLOCK_BYTES", 800)  # two queries at a time
        found, in_blocks = exact.search(asked, 4, gone)
        # the products of other blocks may add their terms in another order: scores agree within the bound of that,
        # and rows exactly, as no two of the five best scores of a query are near each other
        bound = product_bound(asked, candidates.T).max()
        assert_no_near_ties(
            [by_sorting(candidates, rows, query, 5, set(g.tolist()))[1] for query, g in zip(asked, gone, strict=True)],
            bound,
        )
        np.testing.assert_array_equal(found, whole)
        assert_within(in_blocks, scores, bound)

    def test_the_checkerboard_customer_gets_the_product_that_was_withheld(self) -> None:
        own = np.array([[1, 0], [0, 1]] * 10, np.float32)  # customer u and product u: even or odd
        rows = np.arange(1, 21, dtype=np.int32)
        gone = [rows[u % 2 :: 2][rows[u % 2 :: 2] != u + 1] for u in range(20)]
        top, best = ExactIndex(own, rows).search(own, 1, gone)
        assert top[:, 0].tolist() == rows.tolist()
        assert best.tolist() == [[1.0]] * 20

    def test_a_candidate_that_is_no_number_is_never_answered(self) -> None:
        candidates = vectors(50)
        candidates[7] = np.nan
        top, _ = ExactIndex(candidates, np.arange(1, 51, dtype=np.int32)).search(vectors(3, seed=2), 50)
        assert 8 not in top


@needs_scann
class TestScannIndex(Contract):
    def make(self, candidates: Any, rows: Any) -> Any:
        return ScannIndex.build(candidates, rows)

    def test_saved_and_moved_it_answers_the_same(self, tmp_path: Path) -> None:
        built = ScannIndex.build(vectors(500), np.arange(1, 501, dtype=np.int32))
        (tmp_path / "a").mkdir()
        built.save(tmp_path / "a")
        (tmp_path / "a").rename(tmp_path / "b")
        loaded = ScannIndex.load(tmp_path / "b")
        gone = [np.arange(i * 60, dtype=np.int32) for i in range(4)]
        for one, other in zip(built.search(vectors(4), 9, gone), loaded.search(vectors(4), 9, gone), strict=True):
            np.testing.assert_array_equal(one, other)

    @pytest.mark.parametrize("damage", ["index.json", "rows.npy", "dataset.npy", "scann_assets.pbtxt"])
    def test_a_damaged_folder_is_an_error_that_names_it(self, tmp_path: Path, damage: Any) -> None:
        ScannIndex.build(vectors(50), np.arange(1, 51, dtype=np.int32)).save(tmp_path)
        (tmp_path / damage).unlink()
        with pytest.raises(AmzrecError, match=tmp_path.name):
            ScannIndex.load(tmp_path)

    def test_values_that_are_no_numbers_are_refused(self) -> None:
        with pytest.raises(ValueError, match="finite"):
            ScannIndex.build(np.full((3, 2), np.nan, np.float32), np.arange(1, 4, dtype=np.int32))

    @pytest.mark.parametrize(("limit", "recall"), [(10**9, 0.9), (0, 0.8)], ids=["hashed", "tree"])
    def test_hashing_and_trees_find_most_of_the_exact_answer(
        self, monkeypatch: pytest.MonkeyPatch, limit: Any, recall: Any
    ) -> None:
        monkeypatch.setattr(scann, "TREE_FROM", limit)
        candidates, rows = vectors(21_000, 16), np.arange(1, 21_001, dtype=np.int32)
        asked = vectors(100, 16, seed=5)
        gone = [np.arange(i, dtype=np.int32) for i in range(100)]
        top, best = ScannIndex.build(candidates, rows).search(asked, 10, gone)
        exact, score = ExactIndex(candidates, rows).search(asked, 10, gone)
        assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(top, exact, strict=True)]) >= recall
        assert all(not set(a) & set(g) for a, g in zip(top, gone, strict=True))
        np.testing.assert_allclose(
            best, np.take_along_axis(asked @ candidates.T, top - 1, axis=1), rtol=1e-4, atol=1e-4
        )
        assert (best <= score + 1e-4).all()


@pytest.fixture(scope="module")
def tree() -> ScannIndex:
    """An index of 21,000 products with a tree of 145 leaves, which ScaNN's authors would not advise for so few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scann, "TREE_FROM", 0)
        return ScannIndex.build(vectors(21_000, 16), np.arange(1, 21_001, dtype=np.int32))


@needs_scann
def test_where_scann_pads_with_column_0_the_answer_is_exact(tree: ScannIndex) -> None:
    asked, hasty = vectors(5, 16, seed=5), tree.trying(Effort(leaves=1))
    columns, values = hasty._neighbours(asked, 500)
    assert np.isnan(values).any(), "a leaf has about 145 products, and ScaNN says nothing"
    assert (columns[np.isnan(values)] == 0).all()
    found = hasty.search(asked, 500)
    for one, other in zip(found, tree.whole.search(asked, 500), strict=True):
        np.testing.assert_array_equal(one, other)


@needs_scann
def test_votes_do_not_hide_that_scann_found_too_few(tree: ScannIndex) -> None:
    asked = vectors(3, 16, seed=5)
    worst = [np.sort(np.argsort(query @ tree.whole.candidates.T)[:450]).astype(np.int32) + 1 for query in asked]
    votes = Votes(Lists.join(worst), np.full(3 * 450, 0.01, np.float32))
    found = tree.trying(Effort(leaves=1)).search(asked, 500, None, votes)
    for one, other in zip(found, tree.whole.search(asked, 500, None, votes), strict=True):
        np.testing.assert_array_equal(one, other)


@needs_scann
@pytest.mark.parametrize("excluded", [WIDE + 1, 1000, 20_995])
def test_with_many_exclusions_answers_are_exact(tree: ScannIndex, excluded: int) -> None:
    asked, rows = vectors(3, 16, seed=5), tree.whole.rows
    gone = [np.random.default_rng(i).permutation(rows)[:excluded] for i in range(3)]
    hasty = tree.trying(Effort(leaves=1, least=1, times=1))
    for one, other in zip(hasty.search(asked, 10, gone), tree.whole.search(asked, 10, gone), strict=True):
        np.testing.assert_array_equal(one, other)


@needs_scann
def test_an_index_that_is_to_be_quick_says_where_it_would_have_to_search_exactly(tree: ScannIndex) -> None:
    asked, gone = vectors(1, 16, seed=5), np.arange(1, WIDE + 2, dtype=np.int32)
    for one, other in zip(
        tree.quickly().search(asked, 10, [gone[:9]]), tree.search(asked, 10, [gone[:9]]), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(Slow):
        tree.quickly().search(asked, 10, [gone])
    assert tree.search(asked, 10, [gone])[0].all(), "the index itself goes on"


@needs_scann
def test_a_compact_index_keeps_no_copy_of_the_vectors_and_answers_with_exact_scores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(scann, "TREE_FROM", 0)
    candidates, rows = vectors(21_000, 16), np.arange(1, 21_001, dtype=np.int32)
    index, asked = ScannIndex.build(candidates, rows, compact=True), vectors(50, 16, seed=5)
    gone = [np.arange(i, dtype=np.int32) for i in range(50)]
    top, best = index.trying(Effort(least=2000)).search(asked, 10, gone)
    exact, _ = ExactIndex(candidates, rows).search(asked, 10, gone)
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(top, exact, strict=True)]) >= 0.8
    assert not any(set(a) & set(g) for a, g in zip(top, gone, strict=True))
    true = np.einsum("qd,qkd->qk", asked.astype(float), candidates[top - 1].astype(float))
    bound = product_bound(np.abs(asked), np.abs(candidates).max(axis=0)[:, None])
    assert_within(best, true, bound)
    index.save(tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < candidates.nbytes


@pytest.mark.parametrize("rows", [[4, 5, 6, 7], [4, 6, 7, 9], [4], []], ids=str)
def test_rows_are_found_where_they_stand_among_the_ascending_ones(rows: list[int]) -> None:
    wanted = np.array([0, 3, 4, 5, 6, 7, 8, 9, 99], np.int32)
    columns, there = find(np.array(rows, np.int32), wanted)
    assert there.tolist() == [row in rows for row in wanted.tolist()]
    assert [rows[column] for column in columns[there]] == [row for row in wanted.tolist() if row in rows]
    assert all(0 <= column < max(len(rows), 1) for column in columns)


@needs_scann
def test_candidates_that_are_kept_are_found_among_those_that_are_not(tree: ScannIndex) -> None:
    asked, keep = vectors(50, 16, seed=5), np.arange(21_000) % 3 > 0
    top, _ = tree.keeping(keep).search(asked, 10)
    exact, _ = tree.whole.keeping(keep).search(asked, 10)
    assert keep[top - 1].all()
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(top, exact, strict=True)]) >= 0.8


def test_without_avx2_scann_is_not_imported_and_the_reason_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scann, "avx2", lambda: False)
    monkeypatch.setattr(scann, "scann_ops", lambda: pytest.fail("imported"))
    assert "AVX2" in (without_scann() or "")


@pytest.mark.long
@needs_scann
def test_scann_answers_without_loading_tensorflow_which_still_loads_afterwards() -> None:
    code = """
import sys
import numpy as np
from amzrec.answers.scann import ScannIndex
rows = np.arange(1, 21, dtype=np.int32)
top, _ = ScannIndex.build(np.eye(20, dtype=np.float32), rows).search(np.eye(20, dtype=np.float32), 1)
assert top[:, 0].tolist() == rows.tolist()
assert not [m for m in sys.modules if m.split(".")[0] in ("tensorflow", "scann", "pandas")]
import scann
assert scann.scann_ops and "tensorflow" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)
