"""What is printed to be typed next can be pasted into a shell, whatever folders, files and ids are called."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from amzrec import AmzrecError, PrepareConfig, prepare
from amzrec.cli import reports
from amzrec.cli.app import app
from voices import Voice

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
NASTY = [
    "a b",
    "it's",
    '"x"',
    "-x",
    "--run",
    "$HOME `ls`",
    "a;b|c&d",
    "*",
    "\\",
    "#1",
    "~",
    "!x",
    "naïve ☃",
    "a\nb",
    "",
]


def words_of(line: str) -> list[str]:
    """What a shell gives to `amzrec` when the line is pasted."""
    script = 'amzrec() { printf "%s\\0" "$@"; }\n' + line
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


def read(line: str) -> tuple[str, dict[str, Any]]:
    """The command of a pasted line, and the parameters that it reads."""
    name, *words = words_of(line.removeprefix("Next:").strip())
    return name, COMMANDS[name].make_context(name, words).params


@pytest.mark.parametrize("customer", NASTY)
@pytest.mark.parametrize("folder", ["runs/joint", "my runs/it's", "-run", "--out", "a;b"])
def test_the_lines_after_a_training_name_its_run_and_its_customer(folder: str, customer: str) -> None:
    run: Any = SimpleNamespace(
        path=Path(folder), info=SimpleNamespace(untested=False), vectors=SimpleNamespace(customer_ids=["", customer])
    )
    parts = reports.what_next(run).split("       amzrec ")  # a line may hold a line break, quoted
    recommend, evaluate, export = (part if n == 0 else f"amzrec {part}" for n, part in enumerate(parts))
    name, asked = read(recommend)
    assert (name, Path(asked["run"]), asked["customer_id"]) == ("recommend", Path(folder), customer)
    name, asked = read(evaluate)
    assert (name, Path(asked["run"]), asked["json"]) == ("evaluate", Path(folder), True)
    name, asked = read(export)
    assert (name, Path(asked["run"]), str(asked["out"])) == ("export", Path(folder), "export")


@pytest.mark.parametrize("folder", ["data set", "it's", "-d", "--out", "a&b"])
def test_the_line_after_prepare_names_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.csv").write_text("user,item\n" + "".join(f"u{n},p{n % 5}\n" for n in range(20)))
    done = CliRunner().invoke(app, ["prepare", "r.csv", f"--out={folder}"])
    assert done.exit_code == 0, done.output
    name, asked = read(done.stdout.partition("Next:")[2])
    assert name == "train"
    assert [Path(source) for source in asked["source"]] == [Path(folder)]


def test_columns_are_suggested_so_that_they_can_be_pasted(tmp_path: Path) -> None:
    file = tmp_path / "r.csv"
    rows = "".join(f"u{n},p{n % 5},{n % 5 + 1}\n" for n in range(20))
    file.write_text(f'Who\'s it,"What, then",My $core\n{rows}')
    with pytest.raises(AmzrecError) as refused:
        prepare(file, tmp_path / "d")
    typed = str(refused.value).partition("such as ")[2].partition(", or its --format")[0]
    columns = words_of(f"amzrec {typed}")[1]
    dataset = prepare(file, tmp_path / "d", PrepareConfig(columns=columns))
    assert (dataset.info.columns or {})["product_id"] == "What, then"
    file.write_text(f"user,item,Review Score?\n{rows}")
    voice = Voice()
    prepare(file, tmp_path / "e", PrepareConfig(columns="customer=user,product=item"), progress=voice)
    (said,) = (line for line in voice.lines if "looks like stars" in line)
    pair = words_of(f"amzrec {said.partition('add ')[2].partition(' to --columns')[0]}")
    assert pair == ["stars=Review Score?"]
