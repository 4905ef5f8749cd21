"""Whatever is odd about words, files, streams or the locale is one line and exit code 1, in a process of its own."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from amzrec.answers.given import text_of, texts_of
from amzrec.cli.app import app
from amzrec.cli.terminal import Terminal
from amzrec.commands.load import load
from amzrec.commands.prepare import prepare
from amzrec.commands.train import recipe_for
from amzrec.config import PrepareConfig, TrainConfig
from amzrec.errors import AmzrecError, is_utf8, printable
from amzrec.store.dataset import open_dataset
from amzrec.training.snapshot import MemorySnapshot
from conftest import ROOT
from runs import parity_vectors, write_run

CSV = "user,item,rating\n" + "".join(f"u{i % 9},p{i % 7},{i % 5 + 1}\n" for i in range(80))
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(scope="module")
def desk(checkerboard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with reviews, under odd names too, and a run."""
    desk = tmp_path_factory.mktemp("desk")
    (desk / "Größe").mkdir()
    (desk / "folder").mkdir()
    for name in (b"r.csv", "Größe/rés.csv".encode(), b"folder/r\xff.csv"):
        with open(os.path.join(os.fsencode(desk), name), "w") as file:
            file.write(CSV.replace("u1,", "ü1,"))
    board = open_dataset(checkerboard)
    write_run(desk / "run", board, parity_vectors(board))
    return desk


def run(desk: Path, words: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """What a shell makes of `amzrec` and these words."""
    command = f"{sys.executable} -m amzrec {words}"
    given = {**os.environ, "PYTHONPATH": str(ROOT), "AMZREC_CACHE": str(desk / "cache"), **(environment or {})}
    return subprocess.run(["bash", "-c", command], cwd=desk, env=given, capture_output=True, input=b"")


ONE_LINE = {  # words, with what a shell does to the streams → what the line says
    r"describe $'nope\xff.csv'": rb"nope\xff.csv is not UTF-8",
    r"prepare r.csv --out $'o\xff'": rb"o\xff is not UTF-8",
    r"recommend $'c\xff' --run run": rb"c\xff is not UTF-8",
    r"rate u00 $'p\xff' --run run": rb"p\xff is not UTF-8",
    "describe folder": b"is not UTF-8: rename it",
    "describe 'folder/*.csv'": b"is not UTF-8: rename it",
    "--version >/dev/full": b"cannot write standard output: No space left",
    "recommend u00 --run run --json >/dev/full": b"cannot write standard output: No space left",
    "describe - <&-": b"standard input is empty",
}


@pytest.mark.parametrize("words", ONE_LINE)
def test_odd_words_and_streams_are_one_line(desk: Path, words: str) -> None:
    done = run(desk, words)
    assert done.returncode == 1, done
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(b"amzrec: error: ")
    assert ONE_LINE[words] in line


@pytest.mark.parametrize("streams", ["2>&-", "<&-", "2>/dev/full", "<&- 2>&-"])
def test_closed_or_full_streams_that_are_not_needed_change_nothing(desk: Path, streams: str) -> None:
    plain = run(desk, "recommend u00 --run run --json")
    assert plain.returncode == 0
    done = run(desk, f"recommend u00 --run run --json {streams}")
    assert (done.returncode, done.stdout) == (0, plain.stdout)


def test_a_mistake_is_exit_code_1_where_nobody_is_told(desk: Path) -> None:
    for streams in ("2>&-", "2>/dev/full", "<&- >&- 2>&-"):
        assert run(desk, f"recommend u00 --run nowhere {streams}").returncode == 1


def test_progress_that_cannot_be_written_is_not_missed(desk: Path) -> None:
    done = run(desk, "recommend --all --run run --out told.jsonl --overwrite 2>/dev/full")
    assert done.returncode == 0
    assert (desk / "told.jsonl").stat().st_size > 0


def test_a_closed_standard_error_is_no_file_that_is_written(desk: Path) -> None:
    """What a library prints there would go into the file that has taken the number 2."""
    done = run(desk, "recommend --all --run run --out all.jsonl --overwrite <&- >&- 2>&-")
    assert done.returncode == 0
    assert all(json.loads(line)["rank"] for line in (desk / "all.jsonl").read_text().splitlines())


@pytest.mark.parametrize("flag", ["", "--json"])
def test_a_locale_of_ascii_reads_and_writes_all_characters(desk: Path, flag: str) -> None:
    done = run(desk, f"describe Größe/rés.csv {flag}", ASCII)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    if flag:
        assert json.loads(done.stdout)["source"] == "Größe/rés.csv"
    done = run(desk, f"recommend ü --run run {flag}", ASCII)
    assert done.returncode == 0, done.stderr
    done = run(desk, f"describe Größe/nö.csv {flag}", ASCII)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert rb"Gr\xf6\xdfe/n\xf6.csv" in done.stderr


def mistake(*words: object) -> str:
    """The one line that a command answers a mistake with, in this process."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 1, f"{done.output}\n{done.exception!r}"
    assert isinstance(done.exception, SystemExit), done.exception
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("amzrec: error: ")]
    return said


@pytest.mark.parametrize("seed", ["-5", "-1", "4294967296", "18446744073709551616", "9" * 40])
def test_seeds_are_what_all_generators_take(desk: Path, seed: str) -> None:
    assert "--seed is" in mistake("train", desk / "r.csv", "--seed", seed, "--run", desk / "runs" / "x")
    assert "--seed is" in mistake("prepare", desk / "r.csv", "--seed", seed, "--out", desk / "d")
    assert PrepareConfig(seed=0).seed == TrainConfig(seed=2**32 - 1).seed - 2**32 + 1


def test_stars_that_are_all_equal_with_rating_alone_say_so_before_training(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("user,item,rating\n" + "".join(f"u{i % 40},p{i % 30},5\n" for i in range(120)))
    dataset = prepare(tmp_path / "r.csv", tmp_path / "d")
    with pytest.raises(AmzrecError, match="no stars: a rating cannot be learned"):
        recipe_for(dataset, TrainConfig(retrieval_weight=0))


# --- damaged files


def parquet() -> bytes:
    """80 reviews as a Parquet file."""
    target = io.BytesIO()
    columns = {"user": [f"u{i % 9}" for i in range(80)], "item": [f"p{i % 7}" for i in range(80)]}
    pq.write_table(pa.table(columns | {"rating": [i % 5 + 1.0 for i in range(80)]}), target)
    return target.getvalue()


def archive() -> bytes:
    """The same as a zip."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/r.csv", CSV)
    return target.getvalue()


FILES: dict[str, Callable[[], bytes]] = {
    "r.parquet": parquet,
    "r.zip": archive,
    "r.csv.gz": lambda: gzip.compress(CSV.encode()),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_or_has_a_flipped_bit_is_one_error_or_all_its_rows(tmp_path: Path, name: str) -> None:
    whole, rng, errors = FILES[name](), random.Random(1), list[str]()
    damages = [whole[: len(whole) * n // 8] for n in range(8)]
    for _ in range(24):
        flipped = bytearray(whole)
        flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        damages.append(bytes(flipped))
    for damage in damages:
        (tmp_path / name).write_bytes(damage)
        try:
            counts = prepare(tmp_path / name, tmp_path / "d", overwrite=True).info.counts
            assert counts.read == 80
        except AmzrecError as error:
            errors.append(str(error))
    assert len(errors) > 12
    assert not [error for error in errors if "cannot write" in error]


REVIEW = '{"user":"u","item":"p%d","rating":3}\n'
DEEP = {
    "lines.jsonl": "".join(REVIEW % n for n in range(9)) + "[" * 100_000 + "\n",
    "stars.jsonl": REVIEW % 1 + '{"user":"u","item":"p","rating":' + "[" * 9000 + "]" * 9000 + "}\n",
    "ids.jsonl": '{"user":' + '{"a":' * 50_000 + "1" + "}" * 50_000 + ',"item":"p"}\n',
    "array.json": '[{"user":' + "[" * 50_000 + "]" * 50_000 + ',"item":"p"}]',
    "nothing.json": "[" * 60_000,
    "python.jsonl": "{'user':'u','item':'p','rating':3}\n" * 9 + "{'user':" + "[" * 9000 + "]" * 9000 + "}\n",
}  # fmt: skip


@pytest.mark.parametrize("name", DEEP)
def test_deeply_nested_json_is_one_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(DEEP[name])
    with pytest.raises(AmzrecError):
        prepare(tmp_path / name, tmp_path / "d")


@pytest.mark.long
def test_a_saved_dataset_that_is_cut_or_changed_is_one_error_or_all_its_elements(tmp_path: Path) -> None:
    """TensorFlow must not see what would crash it: the test would end with this process."""
    from amzrec.reviews.sources import sample_folder

    whole, rng, errors = sample_folder(), random.Random(2), 0
    read = prepare(whole, tmp_path / "d").info.counts.read
    small = [file for file in sorted(whole.rglob("*")) if file.is_file() and file.name != "00000000.snapshot"]
    assert len(small) >= 2
    for file in small:
        size = file.stat().st_size
        for damage in (*("cut" for _ in range(4)), *("flip" for _ in range(4))):
            shutil.rmtree(tmp_path / "s", ignore_errors=True)
            shutil.copytree(whole, tmp_path / "s")
            content, place = bytearray(file.read_bytes()), rng.randrange(size)
            if damage == "flip":
                content[place] ^= 1 << rng.randrange(8)
            (tmp_path / "s" / file.relative_to(whole)).write_bytes(content[:place] if damage == "cut" else content)
            try:
                assert prepare(tmp_path / "s", tmp_path / "d", overwrite=True).info.counts.read == read
            except AmzrecError:
                errors += 1
    assert errors > 4


def test_an_array_whose_header_is_damaged_is_one_error(desk: Path, tmp_path: Path) -> None:
    file = "vectors/rating_query.npy"
    whole = (desk / "run" / file).read_bytes()
    shutil.copytree(desk / "run", tmp_path / "run")
    rng = random.Random(3)
    cuts = [whole[:n] for n in (0, 3, 6, 8, 10, 30, 100, 127)]
    for _ in range(60):
        changed = bytearray(whole)
        changed[rng.randrange(126)] ^= 1 << rng.randrange(7)
        cuts.append(bytes(changed))
    errors = list[str]()
    for damage in cuts:
        (tmp_path / "run" / file).write_bytes(damage)
        try:
            load(tmp_path / "run").rate("u00", ["p00"])
        except AmzrecError as error:
            errors.append(str(error))
    assert len(errors) > len(cuts) - 10  # the rest are blanks, or change nothing that is read
    assert all("rating_query.npy" in error for error in errors)


def test_what_an_unfinished_training_has_learned_and_lost_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "memory.npz").write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(AmzrecError, match=r"unfinished training .*memory\.npz.*--overwrite"):
        MemorySnapshot.load(tmp_path / "memory.npz")


# --- ids from Python


@pytest.mark.parametrize(
    ("given", "text"), [(17, "17"), (np.int64(17), "17"), (np.array(17), "17"), (17.0, "17"), ("ü", "ü"), (b"x", "x")]
)
def test_ids_from_python_may_be_numbers(given: Any, text: str) -> None:
    assert text_of(given) == text
    assert texts_of([given]) == [text]


@pytest.mark.parametrize("given", [None, True, 1.5, [1], {"a": 1}, "c\udcff", b"c\xff", float("nan")])
def test_what_is_no_id_is_an_error(desk: Path, given: Any) -> None:
    model = load(desk / "run")
    asks: list[Callable[[], Any]] = [
        lambda: model.recommend(given),
        lambda: model.rate(given, ["p00"]),
        lambda: model.similar(given),
        lambda: model.recommend("u00", liked=[given]),
    ]
    for ask in asks:
        with pytest.raises(AmzrecError):
            ask()


def test_bytes_that_are_not_utf8_are_shown_as_such() -> None:
    name = os.fsdecode(b"r\xff\x1b.csv")
    assert not is_utf8(name)
    assert is_utf8("ü\x1b")
    assert printable(name) == r"r\xff\x1b.csv"
    assert json.loads(printable(json.dumps(name, ensure_ascii=False), json=True)) == name
    assert printable("\ud800") == r"\ud800"


def test_a_log_on_a_full_disk_does_not_end_the_work() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    voice = Terminal(Full())
    voice.say("a sentence")
    voice.step("epoch", 1, 2)
    voice.close()
