"""What export writes answers as the vectors do, in TensorFlow without amzrec, whole or not at all."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amzrec.answers.recommender import Recommender
from amzrec.answers.scann import without_scann
from amzrec.commands import export as export_module
from amzrec.commands.export import export
from amzrec.errors import SILENT, AmzrecError
from amzrec.exports import check
from amzrec.store.dataset import open_dataset
from amzrec.store.run import Run
from amzrec.store.strings import Strings
from conftest import write_checkerboard
from runs import parity_vectors, random_vectors, write_run
from voices import Voice

needs_scann = pytest.mark.skipif(without_scann() is not None, reason=f"no ScaNN here: {without_scann()}")
# customers 0 to 9
ODD = ["007", "Zoë 🏔", "a\rb", "a\nb", " u04", "U04", "a\\nb", "\\e", "a\x00b", "\r\n"]
ODD_IDS = dict(enumerate(ODD, start=1))


@pytest.fixture(scope="module")
def random_run(checkerboard: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with random vectors."""
    dataset = open_dataset(checkerboard)
    vectors = random_vectors(dataset, np.random.default_rng(3))
    return write_run(tmp_path_factory.mktemp("export") / "run", dataset, vectors)


@pytest.fixture(scope="module")
def answered() -> dict[str, Any]:
    """What the check of `made` was answered by the clean process, by model."""
    return {}


@pytest.fixture(scope="module")
def made(random_run: Run, answered: dict[str, Any]) -> Any:
    """A run with random vectors, its export, and what was said."""
    voice, ask = Voice(), check.ask

    def remember(folder: Path, request: Any) -> Any:
        answered.update(ask(folder, request))
        return copy.deepcopy(answered)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "ask", remember)
        return random_run, export(random_run, random_run.path.parent / "out", progress=voice), voice


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports of the exact model alone, compared by the test itself instead of in a clean process (seconds)."""
    monkeypatch.setattr(export_module, "without_scann", lambda: "not needed")
    monkeypatch.setattr(check, "check_export", lambda folder, vectors, scann: 0)


@lru_cache(maxsize=4)
def load(folder: Path) -> Any:
    import tensorflow as tf

    return tf.saved_model.load(str(folder))


def recommend(model: Any, customers: Any, k: Any, exclude: Any = None) -> Any:
    import tensorflow as tf

    exclude = [[] for _ in customers] if exclude is None else exclude
    found = model.signatures["recommend"](
        customer_id=tf.constant(customers, tf.string),
        k=tf.constant(k),
        exclude=tf.reshape(tf.constant(exclude, tf.string), [len(customers), -1] if customers else [0, 0]),
    )
    return {name: value.numpy() for name, value in found.items()}


def models(folder: Path) -> Any:
    return [folder / "saved_model"] + ([folder / "scann" / "saved_model"] if (folder / "scann").exists() else [])


@pytest.mark.long
def test_the_checkerboard_customer_gets_the_withheld_product_from_the_loaded_model(
    checkerboard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "check_export", lambda folder, vectors, scann: 0)  # compared here, not in a process
    dataset = open_dataset(checkerboard)
    vectors = parity_vectors(dataset)
    shown = vectors.seen_part != 2  # the withheld diagonal is not among what is hidden here
    offsets = np.concatenate([[0], np.cumsum(shown)])[vectors.seen_offsets].astype(np.int64)
    cut = {name: getattr(vectors, name)[shown] for name in ("seen_product", "seen_stars", "seen_part")}
    vectors = dataclasses.replace(vectors, **cut, seen_offsets=offsets)
    out = export(write_run(tmp_path / "run", dataset, vectors), tmp_path / "out")
    for folder in models(out):
        found = recommend(load(folder), [f"u{u:02}" for u in range(20)], 1)
        assert [p.decode() for p in found["product_id"][:, 0]] == [f"p{u:02}" for u in range(20)]
        assert [t.decode() for t in found["title"][:, 0]] == [f"Product {u}" for u in range(20)]
        np.testing.assert_allclose(found["stars"][:, 0], 5.0)
        assert found["count"].tolist() == [1] * 20


@pytest.mark.slow
def test_scores_and_stars_are_those_of_the_vectors(made: Any) -> None:
    run, out, _ = made
    model, vectors = Recommender(run.vectors), run.vectors
    for folder in models(out):
        found = recommend(load(folder), ["u03", "u07"], 4, [["p00"], ["p01"]])
        for n, customer in enumerate((4, 8)):
            gone = np.append(model.seen(customer)[0], [1, 2][n]).astype(np.int32)
            rows, scores = model.retrieve(vectors.retrieval_query[customer][None], 4, [gone])
            assert [p.decode() for p in found["product_id"][n]] == [vectors.product_ids[r] for r in rows[0]]
            np.testing.assert_allclose(found["score"][n], scores[0], rtol=1e-5)
            stars = model.rate(np.repeat(vectors.rating_query[customer][None], 4, axis=0), rows[0])
            np.testing.assert_allclose(found["stars"][n], stars, rtol=1e-5)


@pytest.mark.slow
def test_rate_predicts_the_stars_of_pairs_and_knows_average_strangers(made: Any) -> None:
    import tensorflow as tf

    run, out, _ = made
    found = load(out / "saved_model").signatures["rate"](
        customer_id=tf.constant(["u00", "nobody", "u05"]), product_id=tf.constant(["p09", "p09", "nothing"])
    )["stars"]
    expected = Recommender(run.vectors).rate(run.vectors.rating_query[[1, 0, 6]], np.array([10, 10, 0], np.int32))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_reviewed_products_stay_hidden_and_short_lists_are_padded_and_counted(made: Any) -> None:
    run, out, _ = made
    reviewed = {run.vectors.product_ids[r] for r in Recommender(run.vectors).seen(1)[0]}
    for folder in models(out):
        found = recommend(load(folder), ["u00"], 500)
        assert found["product_id"].shape == (1, 20)
        count = int(found["count"][0])
        assert count == 20 - len(reviewed)
        answered = [p.decode() for p in found["product_id"][0]]
        assert not reviewed & set(answered[:count])
        assert answered[count:] == [""] * len(reviewed)
        assert found["score"][0, count:].tolist() == found["stars"][0, count:].tolist() == [0.0] * len(reviewed)


@pytest.mark.slow
@pytest.mark.parametrize("width", [0, 1, 20, 300])
def test_exclusions_of_any_width_are_exact(made: Any, width: Any) -> None:
    _, out, _ = made
    names = [f"p{p:02}" for p in range(20)][: width or None]
    exclude = [(names * 20)[:width]]
    for folder in models(out):
        model = load(folder)
        found = recommend(model, ["nobody"], 20, exclude)
        assert int(found["count"][0]) == (20 - min(width, 20))
        assert not set(exclude[0]) & {p.decode() for p in found["product_id"][0]}


@pytest.mark.slow
@pytest.mark.parametrize("signature", ["recommend", "recommend_by_rules"])
def test_one_line_of_exclusions_is_for_all_customers_and_none_excludes_nothing(made: Any, signature: str) -> None:
    import tensorflow as tf

    customers = ["u00", "nobody", "u03"]
    rules = {"diversify": 0.0, "at_most": [""], "at_most_count": [1], "only": [""], "never": [""]}
    more = {name: tf.constant(value) for name, value in rules.items()} if signature == "recommend_by_rules" else {}
    for folder in models(made[1]):
        model = load(folder)

        def ids(exclude: Any, width: int, lines: int, asked: Any = customers, model: Any = model) -> Any:
            exclude = tf.reshape(tf.constant(exclude, tf.string), [lines, width])
            asked = tf.constant(asked, tf.string)
            found = model.signatures[signature](customer_id=asked, k=tf.constant(9), exclude=exclude, **more)
            return found["product_id"].numpy().tolist()

        everything = ids(["", "", ""], 1, 3)
        best = [line[0].decode() for line in everything]
        for nothing in ((["", ""], 2, 1), ([], 0, 1), ([], 0, 0), ([], 4, 0), ([], 0, 3)):
            assert ids(*nothing) == everything
        assert ids(best, 3, 1) == ids(best * 3, 3, 3) != everything
        own = ids(best, 1, 3)
        assert [line[0] for line in own] == [line[1] for line in everything]
        assert ids(best[:1], 1, 1, customers[:1]) == own[:1]
        if "scann" not in str(folder):
            assert ids(["p00"], 1, 1, []) == []
        with pytest.raises(tf.errors.InvalidArgumentError, match="one line, or one per customer"):
            ids(["p00", "p01"], 1, 2)


@pytest.mark.slow
def test_k_0_is_refused_and_no_customers_get_no_answers(made: Any) -> None:
    import tensorflow as tf

    for folder in models(made[1]):
        model = load(folder)
        with pytest.raises(tf.errors.InvalidArgumentError, match="k must be at least 1"):
            recommend(model, ["u00"], 0)
    assert recommend(load(made[1] / "saved_model"), [], 3)["product_id"].shape == (0, 3)


@pytest.mark.slow
def test_the_signatures_are_those_that_are_promised(made: Any) -> None:
    model = load(made[1] / "saved_model")
    for name in ("recommend", "serving_default"):
        inputs = model.signatures[name].structured_input_signature[1]
        assert {n: (s.shape.as_list(), s.dtype.name) for n, s in inputs.items()} == {
            "customer_id": ([None], "string"),
            "k": ([], "int32"),
            "exclude": ([None, None], "string"),
        }
        assert set(model.signatures[name].structured_outputs) == {"product_id", "title", "score", "stars", "count"}
    by_rules = model.signatures["recommend_by_rules"]
    rules = {n: (s.shape.as_list(), s.dtype.name) for n, s in by_rules.structured_input_signature[1].items()}
    assert {n: rule for n, rule in rules.items() if n not in inputs} == {
        "diversify": ([], "float32"),
        "at_most": ([None], "string"),
        "at_most_count": ([None], "int32"),
        "only": ([None], "string"),
        "never": ([None], "string"),
    }
    assert set(by_rules.structured_outputs) == set(model.signatures["recommend"].structured_outputs)
    assert set(model.signatures["rate"].structured_input_signature[1]) == {"customer_id", "product_id"}


@pytest.mark.slow
def test_a_copy_answers_in_a_session_as_servers_run_it(made: Any, tmp_path: Path) -> None:
    import tensorflow as tf

    copy = shutil.copytree(made[1] / "saved_model", tmp_path / "1")
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], str(copy)).signature_def["recommend"]
        values = {"customer_id": ["u03", "nobody"], "k": 3, "exclude": [["p00"], [""]]}
        found = session.run(
            signature.outputs["product_id"].name, {signature.inputs[n].name: v for n, v in values.items()}
        )
    assert found.tolist() == recommend(load(made[1] / "saved_model"), *values.values())["product_id"].tolist()


@pytest.mark.slow
@needs_scann
def test_a_catalogue_too_small_for_approximate_search_is_said_once(made: Any) -> None:
    assert len([line for line in made[2].lines if "ScaNN" in line]) == 1


def test_without_scann_everything_else_is_exported_with_one_clear_line(
    random_run: Run, tmp_path: Path, unchecked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "without_scann", lambda: "it needs another processor")
    voice = Voice()
    out = export(random_run, tmp_path / "out", progress=voice)
    assert sorted(p.name for p in out.iterdir()) == ["README.md", "export.json", "manifest.json", "saved_model"]
    assert [line for line in voice.lines if "another processor" in line] == voice.lines[:1]
    assert json.loads((out / "export.json").read_text())["scann"] is None


def test_ids_of_any_spelling_are_found_again(checkerboard: Path, tmp_path: Path, unchecked: Any) -> None:
    dataset = open_dataset(checkerboard)
    vectors = random_vectors(dataset, np.random.default_rng(0))
    ids = [ODD_IDS.get(row, vectors.customer_ids[row]) for row in range(21)]
    run = write_run(tmp_path / "run", dataset, dataclasses.replace(vectors, customer_ids=Strings.of(ids)))
    out = export(run, tmp_path / "out")
    found = recommend(load(out / "saved_model"), ids, 1)["score"][:, 0]
    model = Recommender(vectors)
    for row in range(21):
        best = model.retrieve(vectors.retrieval_query[row][None], 1, [model.seen(row)[0]])[1][0, 0]
        assert found[row] == pytest.approx(best, rel=1e-5)


def graphs_of(folder: Path, size: int) -> list[bytes]:
    """The graphs that are saved for a run of `size` customers and products, most of which have ids of two lines."""
    vectors = random_vectors(open_dataset(write_checkerboard(folder / "board")), np.random.default_rng(0))
    names = Strings.of(["", *(f"{number}\n{'long' * 9}" if number % 10 else f"{number}" for number in range(size))])
    many: dict[str, Any] = {
        name: np.resize(getattr(vectors, name), (size + 1, getattr(vectors, name).shape[1]))
        for name in ("retrieval_query", "retrieval_candidate", "rating_query", "rating_candidate")
    }
    vectors = dataclasses.replace(
        vectors,
        **many,
        seen_offsets=np.resize(vectors.seen_offsets, size + 2),
        candidates=np.arange(1, size + 1, dtype=np.int32),
        customer_ids=names,
        product_ids=names,
        titles=names,
        features=Strings.of([f"f=\n{'long' * 9}{number}" for number in range(size)]),
        feature_offsets=np.arange(size + 2).clip(max=size),
        feature_items=np.arange(size, dtype=np.int32),
    )
    (folder / "out").mkdir()
    export_module.save(vectors, folder / "out", SILENT)
    return [(model / "saved_model.pb").read_bytes() for model in models(folder / "out")]


@pytest.mark.long
def test_a_graph_does_not_grow_with_the_run(tmp_path: Path) -> None:
    # a graph is limited to 2 GB; ids, titles, features and vectors lie beside it
    for small, large in zip(*(graphs_of(tmp_path / str(size), size) for size in (1000, 20_000)), strict=True):
        assert len(large) < 1.01 * len(small) < 1_000_000
        assert b"longlong" not in large


def test_a_run_without_stars_exports_retrieval_only(checkerboard: Path, tmp_path: Path, unchecked: Any) -> None:
    dataset = open_dataset(checkerboard)
    vectors = random_vectors(dataset, np.random.default_rng(0))
    head = dataclasses.replace(vectors.head, mean=None)
    run = write_run(tmp_path / "run", dataset, dataclasses.replace(vectors, head=head, layers=[]))
    model = load(export(run, tmp_path / "out") / "saved_model")
    assert set(model.signatures) == {"recommend", "recommend_by_rules", "serving_default"}
    assert set(recommend(model, ["u00"], 2)) == {"product_id", "title", "score", "count"}


@pytest.mark.long
def test_an_export_that_differs_from_the_vectors_is_refused_and_leaves_nothing(
    random_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = export_module.save
    monkeypatch.setattr(export_module, "without_scann", lambda: "not needed")

    def wrong(vectors: Any, folder: Path, progress: Any) -> Any:
        changed = np.roll(vectors.seen_product, 1, axis=0)
        return honest(dataclasses.replace(vectors, seen_product=changed), folder, progress)

    monkeypatch.setattr(export_module, "save", wrong)
    with pytest.raises(AmzrecError, match="does not answer as the vectors"):
        export(random_run, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def interview(made: Any, answered: dict[str, Any]) -> Any:
    """The questions of the check, and the honest answers of the exported model."""
    return check.draw_sample(Recommender(made[0].vectors), scann=False), answered["saved_model"]


def swap_ends(answer: Any) -> None:
    for name in ("product_id", "title", "score", "stars"):
        line = answer[name][3]
        line[0], line[1] = line[1], line[0]


def forget_a_reviewed_product(answer: Any, seen: Any = "p02") -> None:
    answer["product_id"][1][0] = seen  # customer u00 reviewed p02


FAULTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "one product less": (lambda answer: answer["count"].__setitem__(2, answer["count"][2] - 1), "products and not"),
    "another score": (lambda answer: answer["score"][2].__setitem__(0, 99.0), "scores that are not those"),
    "another order": (swap_ends, "not the best or not in order"),
    "a reviewed product": (forget_a_reviewed_product, "reviewed or excluded"),
    "another title": (lambda answer: answer["title"][5].__setitem__(1, "Product"), "belongs to another product"),
    "other stars": (lambda answer: answer["stars"][5].__setitem__(1, answer["stars"][5][1] + 0.01), "gets other stars"),
    "other stars of pairs": (lambda answer: answer["rated"].__setitem__(7, -3.0), "rate predicts other stars"),
    "stars that are no number": (lambda answer: answer["rated"].__setitem__(7, float("nan")), "rate predicts"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_notices(made: Any, interview: Any, fault: Any) -> None:
    asked, answer = interview
    model, wrong = Recommender(made[0].vectors), copy.deepcopy(answer)
    change, reason = FAULTS[fault]
    change(wrong)
    assert list(check.faults(answer, asked, model, exact=True)) == []
    assert reason in next(check.faults(wrong, asked, model, exact=True))


@pytest.mark.slow
def test_the_check_wants_four_of_five_exact_answers_from_approximate_search(made: Any, interview: Any) -> None:
    asked, answer = interview
    model, none = Recommender(made[0].vectors), dataclasses.replace(asked, top=np.where(asked.top > 0, 999, 0))
    assert "of the exact answers" in [*check.faults(answer, none, model, exact=False)][-1]


def test_a_folder_that_exists_is_refused_before_any_work_and_a_foreign_one_is_never_replaced(
    random_run: Run, tmp_path: Path
) -> None:
    (tmp_path / "letters").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(AmzrecError, match="is no export folder"):
            export(random_run, tmp_path, overwrite=overwrite)
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    (earlier / "export.json").write_text('{"run": "runs/joint", "products": 3}')
    with pytest.raises(AmzrecError, match="--overwrite"):
        export(random_run, earlier)
    assert (tmp_path / "letters").read_text() == "dear"


def test_a_damaged_run_is_refused(checkerboard: Path, tmp_path: Path) -> None:
    dataset = open_dataset(checkerboard)
    run = write_run(tmp_path / "run", dataset, random_vectors(dataset, np.random.default_rng(0)))
    file = tmp_path / "run" / "vectors" / "retrieval_query.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(AmzrecError, match="checksum"):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_nothing_and_says_what_to_do(random_run: Run, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(AmzrecError, match="cannot write the export folder"):
            export(random_run, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_the_folder_should_be_is_one_clear_error(random_run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AmzrecError, match="cannot write the export folder"):
        export(random_run, tmp_path / "file" / "out")


@pytest.mark.long
def test_the_python_of_the_exported_readme_runs_without_amzrec(made: Any) -> None:
    code = "".join(re.findall(r"```python\n(.*?)```", (made[1] / "README.md").read_text(), re.DOTALL))
    done = subprocess.run(
        [sys.executable, "-c", code + "import sys\nassert 'amzrec' not in sys.modules\n"],
        cwd=made[1],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 10 + 5


@pytest.mark.long
def test_the_commands_of_the_exported_readme_run_the_model_from_a_shell(made: Any) -> None:
    text = (made[1] / "README.md").read_text().replace("\\\n", "")
    show, run = re.findall(r"^    (saved_model_cli .*)$", text, re.MULTILINE)
    clean = {name: value for name, value in os.environ.items() if name not in ("TF_USE_LEGACY_KERAS", "PYTHONPATH")}
    clean |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "TF_CPP_MIN_LOG_LEVEL": "3"}
    shown, answered = (
        subprocess.run(command, shell=True, env=clean, cwd=made[1], capture_output=True, text=True, timeout=120)
        for command in (show, run)
    )
    assert shown.returncode == answered.returncode == 0, shown.stderr + answered.stderr
    names = re.findall(r"puts\['(\w+)'\]", shown.stdout)
    assert names == ["customer_id", "exclude", "k", "count", "product_id", "score", "stars", "title"]
    wanted = recommend(load(made[1] / "saved_model"), ["A1", "somebody new"], 10)
    ids = re.findall(r"b'(p\d\d)'", answered.stdout)
    assert ids == [product.decode() for product in wanted["product_id"].ravel()]
    assert "output key count:\n[10 10]" in answered.stdout


@pytest.mark.slow
def test_export_holds_no_path_of_the_place_where_it_was_made(made: Any) -> None:
    run, out, _ = made
    for file in out.rglob("*"):
        for path in (run.path.parent, Path(export_module.__file__).parent, Path(sys.prefix)):
            assert file.is_dir() or str(path).encode() not in file.read_bytes(), file
