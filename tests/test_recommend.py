"""Questions of one customer, and of all, on the checkerboard whose answers are known."""

from __future__ import annotations

import csv
import dataclasses
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from amzrec.answers.listing import resort
from amzrec.cli import reports
from amzrec.cli.speech import show
from amzrec.cli.terminal import Terminal
from amzrec.commands.load import load
from amzrec.commands.rate import rate
from amzrec.commands.recommend import recommend
from amzrec.commands.recommend_all import recommend_all
from amzrec.commands.similar import similar
from amzrec.errors import AmzrecError
from amzrec.store.dataset import open_dataset
from amzrec.store.run import Run
from amzrec.store.strings import Strings
from conftest import add_features, write_checkerboard
from runs import parity_vectors, random_vectors, write_run


@pytest.fixture(scope="module")
def parity(checkerboard: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    dataset = open_dataset(checkerboard)
    return write_run(tmp_path_factory.mktemp("parity") / "run", dataset, parity_vectors(dataset))


@pytest.fixture(scope="module")
def random(checkerboard: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    dataset = open_dataset(checkerboard)
    return write_run(
        tmp_path_factory.mktemp("random") / "run", dataset, random_vectors(dataset, np.random.default_rng(2))
    )


def ids(document: dict[str, Any], key: str = "recommendations") -> list[str]:
    return [entry["product_id"] for entry in document[key]]


def test_everything_that_the_customer_reviewed_is_hidden(parity: Run) -> None:
    # u03 reviewed all odd products (its test review included) and the even ones 4 and 6
    found = recommend("u03", parity, k=20)
    assert ids(found) == ["p00", "p02", "p08", "p10", "p12", "p14", "p16", "p18"]
    assert found["answered_from"] == "model"


def test_include_seen_shows_the_own_parity_first(parity: Run) -> None:
    found = recommend("u03", parity, k=10, include_seen=True)
    assert ids(found) == [f"p{p:02}" for p in range(1, 20, 2)]
    assert [entry["rank"] for entry in found["recommendations"]] == list(range(1, 11))
    assert found["recommendations"][0] == {
        "rank": 1,
        "product_id": "p01",
        "title": "Product 1",
        "score": pytest.approx(4 - 0.02),
        "stars": 5.0,
    }


def test_an_unknown_customer_is_answered_from_popularity_and_told_so(parity: Run) -> None:
    found = recommend("nobody", parity, k=3)
    assert found["answered_from"] == "popularity"
    assert ids(found) == ["p00", "p01", "p02"]


def test_an_unknown_customer_who_likes_odd_products_gets_odd_ones(parity: Run) -> None:
    found = recommend("nobody", parity, k=4, liked=["p03", "Product 5"])
    assert found["answered_from"] == "liked"
    assert ids(found) == ["p01", "p07", "p09", "p11"]


def test_what_a_known_customer_likes_is_added_to_the_history(random: Run) -> None:
    plain, liking = recommend("u03", random, k=3), recommend("u03", random, k=3, liked=["p00"])
    assert liking["answered_from"] == "model"
    scores = [[entry["score"] for entry in found["recommendations"]] for found in (plain, liking)]
    assert scores[0] != scores[1]


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The checkerboard whose products 0 to 9 are red, 5 to 14 are large, and 15 to 19 are nothing."""
    folder = tmp_path_factory.mktemp("coloured")
    write_checkerboard(folder / "dataset")
    sizes = [["colour=red"] * (p < 10) + ["size=large"] * (5 <= p < 15) for p in range(20)]
    add_features(folder / "dataset", [[], *sizes])
    dataset = open_dataset(folder / "dataset")
    return write_run(folder / "run", dataset, parity_vectors(dataset))


def test_only_products_with_a_feature_of_each_name_are_answered(coloured: Run) -> None:
    def found(*only: str) -> list[str]:
        return ids(recommend("u03", coloured, k=20, only=only, include_seen=True))

    odd_first = ["p01", "p03", "p05", "p07", "p09", "p00", "p02", "p04", "p06", "p08"]
    assert found("colour=red") == odd_first
    assert found("colour=red", "size=large") == ["p05", "p07", "p09", "p06", "p08"]
    assert len(found()) == 20


def test_products_with_an_unwanted_feature_are_not_answered(coloured: Run) -> None:
    found = ids(recommend("u03", coloured, k=20, only=["size=large"], never=["colour=red"], include_seen=True))
    assert found == ["p11", "p13", "p10", "p12", "p14"]
    found = ids(recommend("u03", coloured, k=20, never=["colour=red", "size=large"], include_seen=True))
    assert sorted(found) == ["p15", "p16", "p17", "p18", "p19"]


def test_only_holds_for_everyone_too(coloured: Run, tmp_path: Path) -> None:
    file = recommend_all(coloured, tmp_path / "all.parquet", k=20, only=["size=large"])
    assert set(pq.read_table(file)["product_id"].to_pylist()) <= {f"p{p:02}" for p in range(5, 15)}


def test_a_feature_that_no_product_has_is_refused_with_the_nearest(coloured: Run, parity: Run) -> None:
    with pytest.raises(AmzrecError, match=r"'color=red'.*such as colour=red"):
        recommend("u03", coloured, only=["color=red"])
    with pytest.raises(AmzrecError, match="told no features of products"):
        recommend("u03", parity, only=["colour=red"])


def test_excluded_products_are_left_out_by_id_and_by_title(parity: Run) -> None:
    assert ids(recommend("nobody", parity, k=2, exclude=["p00", "Product 2"])) == ["p01", "p03"]


def test_more_than_there_are_gives_what_there_is(parity: Run) -> None:
    assert len(recommend("nobody", parity, k=10**9)["recommendations"]) == 20
    everything = [f"p{p:02}" for p in range(20)]
    assert recommend("nobody", parity, exclude=everything)["recommendations"] == []


def test_sorting_by_stars_orders_by_stars(random: Run) -> None:
    found = recommend("u04", random, k=10, sort="stars")["recommendations"]
    stars = [entry["stars"] for entry in found]
    assert stars == sorted(stars, reverse=True)


def test_a_blend_adds_scores_and_stars_on_one_scale() -> None:
    # standardised scores (1.22, 0, -1.22) and stars (-1.41, 0.71, 0.71)
    scores, stars = np.array([900, 800, 700], np.float32), np.array([1, 4, 4], np.float32)
    assert resort(scores, stars, "blend").tolist() == [1, 0, 2]
    assert resort(scores, stars, "stars").tolist() == [1, 2, 0]
    assert resort(scores, stars, "retrieval").tolist() == [0, 1, 2]
    assert resort(scores, np.full(3, 4, np.float32), "blend").tolist() == [0, 1, 2]


def test_rate_lists_the_best_first(parity: Run) -> None:
    found = rate("u03", ["p04", "Product 5", "p04"], parity)
    assert found["ratings"] == [
        {"rank": 1, "product_id": "p05", "title": "Product 5", "stars": 5.0},
        {"rank": 2, "product_id": "p04", "title": "Product 4", "stars": 1.0},
    ]


def test_similar_names_the_product_and_its_neighbours(parity: Run) -> None:
    found = similar("Product 4", parity, k=3)
    assert (found["product_id"], found["title"]) == ("p04", "Product 4")
    assert ids(found, "similar") == ["p00", "p02", "p06"]
    assert len(similar("p04", parity, k=100)["similar"]) == 19


@pytest.mark.parametrize("k", [0, -1])
def test_fewer_than_one_recommendation_is_refused(parity: Run, k: int) -> None:
    for verb, name in ((recommend, "u03"), (similar, "p04")):
        with pytest.raises(AmzrecError, match=rf"-k is {k}; allowed: a whole number from 1"):
            verb(name, parity, k=k)


def test_an_unknown_sort_says_what_is_allowed(parity: Run) -> None:
    with pytest.raises(AmzrecError, match=r"retrieval \| stars \| blend"):
        recommend("u03", parity, sort="price")


def test_an_unknown_liked_product_is_refused_with_a_suggestion(parity: Run) -> None:
    with pytest.raises(AmzrecError, match="Product 12"):
        recommend("u03", parity, liked=["Produkt 12"])


def test_an_unknown_excluded_product_is_told_and_the_others_are_left_out(parity: Run) -> None:
    first = recommend("u03", parity)["recommendations"][0]["product_id"]
    document = recommend("u03", parity, exclude=["Produkt 12", first])
    assert document["unknown_excluded"] == ["Produkt 12"]
    assert first not in [row["product_id"] for row in document["recommendations"]]
    assert "not in this run, so nothing to exclude: Produkt 12" in reports.recommendations(document, 100)


def test_a_list_of_nothing_is_a_sentence(parity: Run) -> None:
    document = recommend("u03", parity) | {"recommendations": []}
    assert "Nothing is left to recommend" in reports.recommendations(document, 100)


def test_what_to_type_next_can_be_pasted() -> None:
    assert shlex.split(reports.quoted("it's a b")) == ["it's a b"]
    assert reports.quoted("-x") == "-- -x"
    nasty = "\x1b[31mit's \\ \x9b\u202e é"
    pasted = subprocess.run(["bash", "-c", f"printf %s {reports.quoted(nasty)}"], capture_output=True, text=True)
    assert pasted.stdout == nasty


def test_what_is_printed_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    title = "\x1b[2J\x1b[H\x9b31m\rcleared\n\u202egnp.exe"
    rows = [{"rank": 1, "title": title, "score": 0.5, "product_id": "\x07p"}]
    show(rows, False, lambda: reports.products(rows))
    Terminal(sys.stdout).say(title)
    table = capsys.readouterr().out
    assert r"\x1b[2J\x1b[H\x9b31m\rcleared\n\u202egnp.exe" in table
    assert len(table.splitlines()) == 3 + 2
    assert not set(table) & set("\x1b\x9b\r\u202e\x07")
    show(rows, True, str)
    document = capsys.readouterr().out
    assert not set(document) & set("\x1b\x9b\r\u202e\x07")
    assert json.loads(document) == rows


def test_a_run_of_clicks_has_no_stars_to_show_or_sort_by(checkerboard: Path, tmp_path: Path) -> None:
    dataset = open_dataset(checkerboard)
    vectors = random_vectors(dataset, np.random.default_rng(2))
    vectors = dataclasses.replace(vectors, head=dataclasses.replace(vectors.head, mean=None))
    run = write_run(tmp_path / "clicks", dataset, vectors)
    assert all("stars" not in entry for entry in recommend("u03", run)["recommendations"])
    with pytest.raises(AmzrecError, match="clicks"):
        recommend("u03", run, sort="stars")
    with pytest.raises(AmzrecError, match="clicks"):
        rate("u03", ["p01"], run)
    recommend_all(run, tmp_path / "all.parquet")
    assert "stars" not in pq.read_table(tmp_path / "all.parquet").column_names


def test_the_model_hands_out_data_frames(parity: Run) -> None:
    model = load(parity.path)
    assert list(model.recommend("u03", k=2).columns) == ["product_id", "title", "score", "stars"]
    assert model.recommend("u03", k=2)["product_id"].tolist() == ["p00", "p02"]
    assert model.rate("u03", ["p01"])["stars"].tolist() == [5.0]
    assert model.rate(np.str_("u03"), "p01")["stars"].tolist() == [5.0]
    assert model.recommend("u03").attrs["answered_from"] == "model"
    assert model.recommend("nobody", liked="p01").attrs["answered_from"] == "liked"
    assert model.recommend(7).attrs["answered_from"] == "popularity"
    nobody: Any = None
    with pytest.raises(AmzrecError, match="allowed: text or a whole number"):
        model.recommend(nobody)
    assert model.similar("p01", k=1)["product_id"].tolist() == ["p03"]
    assert model.fold_in(["p01"]).retrieval.shape == (3,)


@pytest.mark.parametrize(("suffix", "shown"), [(".parquet", "\x1b[31mp\x9b\0"), (".csv", r"\x1b[31mp\x9b\x00")])
def test_ids_that_steer_a_terminal_do_not_in_a_csv_and_are_as_they_are_in_parquet(
    checkerboard: Path, tmp_path: Path, suffix: str, shown: str
) -> None:
    nasty = ["", "\x1b[31mp\x9b\0", *(f"=p{n}" for n in range(1, 20))]
    dataset = open_dataset(checkerboard)
    vectors = dataclasses.replace(parity_vectors(dataset), product_ids=Strings.of(nasty))
    run = write_run(tmp_path / "run", dataset, vectors)
    out = recommend_all(run, tmp_path / f"all{suffix}", k=20, include_seen=True)
    rows = pq.read_table(out).to_pylist() if suffix == ".parquet" else list(csv.DictReader(out.open(newline="")))
    no_formula = "'" if suffix == ".csv" else ""
    assert {row["product_id"] for row in rows} == {shown, *(no_formula + product for product in nasty[2:])}


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
@pytest.mark.parametrize("sort", ["retrieval", "stars", "blend"])
def test_the_file_for_everyone_says_what_each_is_told_alone(
    random: Run, tmp_path: Path, suffix: str, sort: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amzrec.answers.everyone.TOGETHER", 7)
    out = recommend_all(random, tmp_path / f"all{suffix}", k=4, sort=sort)
    if suffix == ".parquet":
        lines = pq.read_table(out).to_pylist()
    elif suffix == ".csv":
        with out.open(newline="") as stream:
            lines = list(csv.DictReader(stream))
    else:
        lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert list(lines[0]) == ["customer_id", "rank", "product_id", "title", "score", "stars"]
    for customer in ("u00", "u07", "u19"):
        told = recommend(customer, random, k=4, sort=sort)["recommendations"]
        mine = [line for line in lines if line["customer_id"] == customer]
        assert [line["product_id"] for line in mine] == [entry["product_id"] for entry in told]
        assert [int(line["rank"]) for line in mine] == [1, 2, 3, 4]
        assert [float(line["stars"]) for line in mine] == pytest.approx([e["stars"] for e in told], abs=1e-4)
        assert [float(line["score"]) for line in mine] == pytest.approx([e["score"] for e in told], abs=1e-4)


def test_an_existing_file_is_replaced_only_when_asked(parity: Run, tmp_path: Path) -> None:
    out = tmp_path / "all.csv"
    out.write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(AmzrecError, match="amzrec did not write it"):
            recommend_all(parity, out, overwrite=overwrite)
    assert out.read_text() == "mine"
    out.unlink()
    recommend_all(parity, out)
    with pytest.raises(AmzrecError, match="--overwrite"):
        recommend_all(parity, out)
    recommend_all(parity, out, overwrite=True)
    assert out.read_text().startswith('"customer_id"')


def test_a_place_that_cannot_be_written_leaves_nothing_behind(parity: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AmzrecError, match="cannot write"):
        recommend_all(parity, tmp_path / "file" / "all.csv")
    with pytest.raises(AmzrecError, match=r"\.parquet, \.csv, \.jsonl"):
        recommend_all(parity, tmp_path / "all.xlsx")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_interrupted_file_is_absent(parity: Run, tmp_path: Path) -> None:
    class Stop:
        def say(self, line: str) -> None: ...

        def step(self, label: str, done: int, total: int, note: str = "") -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recommend_all(parity, tmp_path / "all.jsonl", progress=Stop())
    assert list(tmp_path.iterdir()) == []


def test_answers_need_numpy_alone(parity: Run) -> None:
    code = (
        "import sys; from amzrec import recommend, rate, similar\n"
        f"run = {str(parity.path)!r}\n"
        "recommend('u03', run, liked=['p00']); rate('u03', ['p01'], run); similar('p01', run)\n"
        "heavy = {'tensorflow', 'pandas', 'ibis', 'duckdb', 'matplotlib', 'pyarrow', 'scann', 'tf_keras'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_file_for_everyone_follows_the_rules_of_a_list(random: Run, tmp_path: Path) -> None:
    out = recommend_all(random, tmp_path / "all.jsonl", k=3, diversify=0.6)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    changed = 0
    for customer in ("u00", "u07", "u19"):
        told = recommend(customer, random, k=3, diversify=0.6)["recommendations"]
        mine = [line["product_id"] for line in lines if line["customer_id"] == customer]
        assert mine == [entry["product_id"] for entry in told]
        changed += mine != [entry["product_id"] for entry in recommend(customer, random, k=3)["recommendations"]]
    assert changed
