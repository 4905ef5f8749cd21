"""The command line around the verbs: flags, tables, JSON, progress, exit codes."""

from __future__ import annotations

import inspect
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import amzrec
from amzrec.cli import flags, reports, tables, terminal
from amzrec.cli.app import app
from amzrec.config import PrepareConfig, TrainConfig
from amzrec.errors import AmzrecError
from amzrec.settings import flag, settings_of
from amzrec.store import dataset
from conftest import ROOT
from runs import parity_vectors, write_run


def run(*words: object) -> Any:
    """One command, in this process."""
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def parity(checkerboard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has understood the checkerboard."""
    board = dataset.open_dataset(checkerboard)
    return write_run(tmp_path_factory.mktemp("runs") / "parity", board, parity_vectors(board)).path


@pytest.fixture(scope="module")
def repeated(checkerboard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with settings of its own, to be repeated."""
    board = dataset.open_dataset(checkerboard)
    settings = TrainConfig(epochs=5, dim=24, head=(8,)).to_json()
    split = PrepareConfig(split="temporal", seed=7).protocol()
    folder = tmp_path_factory.mktemp("repeated") / "run"
    return write_run(folder, board, parity_vectors(board), recipe=settings, protocol=split).path


def test_recommend_lists_the_own_parity_of_the_checkerboard_first(parity: Path) -> None:
    done = run("recommend", "u07", "--run", parity, "--include-seen", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["customer_id"], document["answered_from"]) == ("u07", "model")
    first = document["recommendations"][0]
    assert (first["rank"], first["product_id"], first["title"]) == (1, "p01", "Product 1")
    assert first["stars"] == pytest.approx(5)
    assert [int(entry["product_id"][1:]) % 2 for entry in document["recommendations"]] == [1] * 10


def test_recommend_prints_a_table_with_title_score_and_stars(parity: Path) -> None:
    done = run("recommend", "u07", "--run", parity, "-k", 3, "--include-seen")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "for u07"
    assert lines[2].split() == ["rank", "title", "stars", "score", "product"]
    assert lines[4].split()[:3] == ["1", "Product", "1"]
    assert len(lines) == 7


def test_an_unknown_customer_is_told_where_the_answer_comes_from(parity: Path) -> None:
    done = run("recommend", "nobody", "--run", parity)
    assert done.exit_code == 0, done.output
    assert "nobody is not known to this run" in done.stdout
    assert "most popular" in done.stdout


def test_everyone_is_answered_as_the_flags_say(parity: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.csv"
    for words, first in (("", "p00"), ("--include-seen", "p01"), ("--include-seen --sort stars", "p01")):
        done = run("recommend", "--all", "--out", out, "--run", parity, "-k", 1, "--overwrite", *words.split())
        assert done.exit_code == 0, done.output
        told = {line.split(",")[0]: line.split(",")[2] for line in out.read_text().replace('"', "").splitlines()}
        assert told["u05"] == first


def test_flags_for_one_customer_are_refused_with_all(parity: Path, tmp_path: Path) -> None:
    done = run("recommend", "--all", "--out", tmp_path / "all.csv", "--run", parity, "--liked", "p01")
    assert done.exit_code == 1
    assert "--liked" in done.stderr


def test_rate_lists_the_best_first(parity: Path) -> None:
    done = run("rate", "u07", "p02", "p09", "--run", parity, "--json")
    assert [entry["product_id"] for entry in json.loads(done.stdout)["ratings"]] == ["p09", "p02"]


def test_similar_products_share_the_parity(parity: Path) -> None:
    done = run("similar", "Product 4", "-k", 9, "--run", parity, "--json")
    assert {int(entry["product_id"][1:]) % 2 for entry in json.loads(done.stdout)["similar"]} == {0}


def test_evaluate_prints_the_model_beside_the_baselines(parity: Path) -> None:
    done = run("evaluate", parity)
    assert done.exit_code == 0, done.output
    names = [line.split("  ")[0].strip() for line in done.stdout.splitlines()]
    assert {"model", "product bias", "popularity", "global mean"} <= set(names)


def test_what_a_run_was_not_trained_for_is_not_shown(checkerboard: Path, tmp_path: Path) -> None:
    board = dataset.open_dataset(checkerboard)
    facts = {"trained": ["rating"], "recipe": {"features": "full"}}
    write_run(tmp_path / "rating", board, parity_vectors(board), **facts)
    lines = run("evaluate", tmp_path / "rating").stdout.splitlines()
    model = next(line.split() for line in lines if line.startswith("model"))
    assert model[1:] == ["0.0000", "0.0000", *["-"] * 7]
    assert any(line.startswith("Not trained, so not shown (model: retrieval)") for line in lines)
    assert not any(line.startswith("popularity") and "(" in line for line in lines)


def test_evaluate_json_is_one_document_and_nothing_else(parity: Path) -> None:
    done = run("evaluate", parity, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["model"]["ranking"]["recall@10"] == 1.0
    assert json.loads(done.stdout) == json.loads((parity / "metrics.json").read_text())


def test_a_mistake_is_one_line_on_standard_error_and_exit_code_1(tmp_path: Path) -> None:
    done = run("recommend", "u07", "--run", tmp_path / "none")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.startswith("amzrec: error: there is no run folder")
    assert len(done.stderr.splitlines()) == 1


def test_an_unexpected_os_error_is_one_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/some/where")

    monkeypatch.setattr("amzrec.commands.similar.similar", broken)
    done = run("similar", "p01")
    assert done.exit_code == 1
    assert done.stderr.startswith("amzrec: error: Permission denied: /some/where")


def test_an_interrupt_ends_quietly_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("amzrec.commands.similar.similar", stopped)
    done = run("similar", "p01")
    assert done.exit_code == 130
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["train", "--epoch", 3],
            "amzrec train has no flag --epoch. Did you mean --epochs? See: amzrec train --help-all",
        ),
        (["rate", "u1", "p1", "--xyz"], "amzrec rate has no flag --xyz. See: amzrec rate --help"),
        (["trian"], "No such command 'trian'. Did you mean 'train'? See: amzrec --help"),
        (["prepare"], "amzrec prepare needs --out: dataset folder to write. See: amzrec prepare --help-all"),
        (["similar"], "amzrec similar needs PRODUCT: product, by id or exact title. See: amzrec similar --help"),
        (["train", "--epochs", "x"], "--epochs is 'x'; allowed: a whole number, at least 1"),
        (
            ["train", "--split-seed", "x"],
            "--split-seed is 'x'; allowed: a whole number, at least 0 and below 4,294,967,296, such as 42",
        ),
        (["train", "--optimizer", "sgd"], "--optimizer is 'sgd'; allowed: adagrad | adam"),
        (["similar", "p1", "-k", "x"], "amzrec similar: -k: 'x' is not a valid int. See: amzrec similar --help"),
        (["similar", "a", "b"], "Got unexpected extra argument(s) (b). See: amzrec similar --help"),
        (["train", "--epochs"], "Option '--epochs' requires an argument. See: amzrec --help"),
    ],
)
def test_whatever_is_typed_wrong_is_one_line_and_exit_code_1(words: list[object], line: str) -> None:
    done = run(*words)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == f"amzrec: error: {line}\n"


def test_amzrec_alone_shows_its_commands() -> None:
    done = run()
    assert done.exit_code == 0
    assert "prepare" in done.stdout


def test_a_reader_that_stops_early_is_no_error(parity: Path) -> None:
    line = f"{sys.executable} -m amzrec recommend u07 -k 20 --run {parity} | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], capture_output=True, text=True, cwd=ROOT)
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr


def test_python_m_amzrec_is_amzrec() -> None:
    done = subprocess.run([sys.executable, "-m", "amzrec", "--version"], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == f"amzrec {amzrec.__version__}\n"


# --- the short and the long help


def flags_in(text: str) -> list[str]:
    """The flags that a help lists, in its order."""
    return re.findall(r"^  (-[-\w]+)", text, re.M)


def test_the_help_of_train_shows_what_most_people_need() -> None:
    shown = (
        "--run --columns --split --preset --rating-weight --retrieval-weight --epochs --recipe "
        "--from --resume --overwrite --json --help-all --help"
    )
    assert flags_in(run("train", "--help").stdout) == shown.split()


def test_the_long_help_shows_every_flag_in_groups() -> None:
    text = run("train", "--help-all").stdout
    headings = re.findall(r"^(\w+):$", text, re.M)
    assert headings == ["Arguments", "Options", "Data", "Model", "Losses", "Regularisation", "Optimiser", "Negatives"]
    wanted = [flag(name) for name in (*settings_of(TrainConfig), *settings_of(PrepareConfig), "split_seed")]
    assert set(wanted) <= set(flags_in(text))
    negatives = ["--negatives", "--compared", "--hard-negatives", "--mask-positives", "--log-q"]
    assert flags_in(text.split("Negatives:")[1]) == negatives


@pytest.mark.parametrize("verb", ["prepare", "describe", "train", "compare"])
def test_no_short_help_lists_more_than_fourteen_flags(verb: str) -> None:
    assert len(flags_in(run(verb, "--help").stdout)) <= 14


# --- flags from settings


def built(values: dict[str, Any], base: dict[str, Any] | None = None) -> Any:
    """The training settings of these flags."""
    return flags.Flags(TrainConfig, (), {}).build(values, base)


def test_flags_that_are_not_given_leave_the_settings_out() -> None:
    assert built({"epochs": None, "head": None}) is None


def test_flags_that_are_given_become_settings() -> None:
    assert built({"epochs": "3", "head": "64,32", "refit": False}) == TrainConfig(epochs=3, head=(64, 32), refit=False)


def test_an_empty_list_flag_is_an_empty_list() -> None:
    assert built({"head": ""}) == TrainConfig(head=())


def test_a_list_flag_that_is_no_list_of_numbers_says_what_is_allowed() -> None:
    with pytest.raises(AmzrecError, match=r"--head is '64,wide'; allowed: whole numbers, each at least 1, such as 64"):
        built({"head": "64,wide"})


def test_a_flag_that_is_given_wins_over_its_preset() -> None:
    config = built({"preset": "ids", "dim": "64"})
    assert (config.preset, config.features, config.optimizer, config.dim) == ("ids", "ids", "adagrad", 64)


def test_a_preset_wins_over_a_recipe_and_a_flag_over_both() -> None:
    config = built({"preset": "ids", "dim": "64"}, {"dim": 8, "optimizer": "adam", "epochs": 3})
    assert (config.dim, config.optimizer, config.epochs) == (64, "adagrad", 3)


def test_every_setting_has_help_and_a_group() -> None:
    for config in (PrepareConfig, TrainConfig):
        texts = flags.help_texts(config)
        assert list(texts) == list(settings_of(config))
        assert all(setting.group for setting in settings_of(config).values())
        assert not [text for text in texts.values() if not text[0].isupper() or not text.endswith(".")]


# --- what the verbs are given


class Asked(dict[str, Any]):
    """What a verb was called with, by keyword, instead of doing it."""

    def __call__(self, *positional: object, **keywords: object) -> None:
        self.update(keywords, positional=positional)
        raise AmzrecError("enough")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Stands for the verbs prepare and train."""
    noted = Asked()
    monkeypatch.setattr("amzrec.commands.train.train", noted)
    monkeypatch.setattr("amzrec.commands.prepare.prepare", noted)
    return noted


def test_the_seed_of_the_split_and_of_the_training_are_two_flags_of_train(asked: Asked) -> None:
    run("train", "--seed", 5, "--split-seed", 6)
    assert asked["positional"][2] == TrainConfig(seed=5)
    assert asked["prepare"] == PrepareConfig(seed=6)


def test_a_recipe_repeats_the_settings_and_the_split_of_a_run(asked: Asked, repeated: Path) -> None:
    run("train", "reviews.csv", "--recipe", repeated, "--epochs", 9)
    assert asked["positional"][2] == TrainConfig(epochs=9, dim=24, head=(8,))
    assert asked["prepare"] == PrepareConfig(split="temporal", seed=7)
    run("prepare", "reviews.csv", "--out", "mine", "--recipe", repeated, "--seed", 8)
    assert asked["positional"][2] == PrepareConfig(split="temporal", seed=8)


def test_a_recipe_leaves_a_dataset_folder_as_it_was_split(asked: Asked, repeated: Path, checkerboard: Path) -> None:
    run("train", checkerboard, "--recipe", repeated)
    assert asked["prepare"] is None
    assert asked["positional"][2].dim == 24


def test_a_recipe_may_be_a_file_of_flags(asked: Asked, tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    file.write_text('{"preset": "ids", "rating-weight": 0, "split_seed": 3, "head": [8, 4]}')
    run("train", "--recipe", file, "--dim", 16)
    assert asked["positional"][2] == TrainConfig.of(preset="ids", rating_weight=0, head=(8, 4), dim=16)
    assert asked["prepare"] == PrepareConfig(seed=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"epoch": 3}',
            "recipe.json has the unknown setting 'epoch'; did you mean 'epochs'? (allowed: format, columns",
        ),
        ('{"epochs": "3"}', "--epochs is '3'; allowed: a whole number, at least 1"),
        ("[1]", 'recipe.json is not a JSON object of flags, such as {"epochs": 20, "dim": 64}'),
        ("{", "recipe.json is not a JSON file (Expecting property name"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_one_line(asked: Asked, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "recipe.json").write_text(text)
    done = run("train", "--recipe", tmp_path / "recipe.json")
    assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)
    assert message in done.stderr


def test_a_recipe_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    done = run("train", "--recipe", tmp_path / "none")
    assert done.exit_code == 1
    assert done.stderr.endswith("No such file or directory; name a run folder or a JSON file\n")


# --- what people read


def test_numbers_stand_to_the_right_and_words_to_the_left() -> None:
    assert tables.table(["name", "n"], [["ab", 5], ["a", 1234], ["c", None]]).splitlines() == [
        "name      n",
        "----  -----",
        "ab        5",
        "a     1,234",
        "c         -",
    ]


def test_a_table_without_rows_is_its_header() -> None:
    assert tables.table(["a", "bc"], []).splitlines() == ["a  bc", "-  --"]


def test_a_long_title_is_cut_with_an_ellipsis() -> None:
    assert tables.cut("A very long title", 8) == "A very…"
    assert tables.cut(None, 8) is None


def test_columns_that_no_system_has_are_left_out() -> None:
    lines = reports.systems_table({"a": {"rating": {"rmse": 1.0}}, "b": {}}).splitlines()
    assert lines[0].split() == ["RMSE"]
    assert lines[2].split() == ["a", "1.0000"]
    assert lines[3].split() == ["b", "-"]


def test_progress_is_plain_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    voice = terminal.Terminal(stream)
    for done in range(1, 101):
        voice.step("epoch", done, 100, "5 examples/s")
    voice.last -= terminal.PAUSE
    voice.step("epoch", 100, 100)
    voice.say("Trained.")
    voice.close()
    assert stream.getvalue().splitlines() == ["epoch 1/100  5 examples/s", "epoch 100/100", "Trained."]


def test_progress_is_one_live_line_on_a_terminal() -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Screen()
    voice = terminal.Terminal(stream)
    voice.step("epoch", 12, 24)
    voice.step("epoch", 24, 24)
    voice.close()
    bars = "epoch [############............] 12/24\r\x1b[Kepoch [########################] 24/24\n"
    assert stream.getvalue() == bars


# --- from Python


@pytest.mark.slow
def test_a_verb_is_a_function_of_the_package() -> None:
    code = """
import amzrec
try: amzrec.evaluate("nowhere")
except amzrec.AmzrecError: print("attribute")
import amzrec.commands.prepare, amzrec.training.phases
try: amzrec.prepare(None, "/dev/null/x")
except amzrec.AmzrecError: print("import")
from amzrec import rate, recommend
try: recommend("u1", "nowhere")
except amzrec.AmzrecError: print("from")
print(amzrec.prepare.__name__, callable(amzrec.train), callable(rate))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=dict(os.environ))
    assert done.stdout.split("\n")[:4] == ["attribute", "import", "from", "prepare True True"], done.stderr


def test_a_verb_shows_the_signature_of_its_function() -> None:
    assert list(inspect.signature(amzrec.prepare).parameters)[:3] == ["source", "out", "config"]


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        amzrec.trian  # noqa: B018


def test_load_answers_with_data_frames(parity: Path) -> None:
    frame = amzrec.load(parity).recommend("u07", k=2, include_seen=True)
    assert list(frame.columns) == ["product_id", "title", "score", "stars"]
    assert list(frame["product_id"]) == ["p01", "p03"]
