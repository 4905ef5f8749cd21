"""The README says what is true: its commands run, its flags exist, its files are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import readme_flags
from amzrec.cli.app import app
from conftest import ROOT, checkerboard_reviews

README = (ROOT / "README.md").read_text()
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
CONSOLE = [line[2:] for block in re.findall(r"```console\n(.*?)```", README, re.S) for line in block.splitlines()]
SMALL = ["--epochs", "1", "--dim", "12", "--head", "4", "--no-refit"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_flag_has_help(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        if "--help" not in parameter.opts:
            assert parameter.help, f"{name} {parameter.name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_stands_in_the_readme_outside_of_the_table(name: str) -> None:
    assert f"amzrec {name}" in README.split("## Every command and flag")[0]


def test_the_table_of_flags_is_up_to_date() -> None:
    assert readme_flags.with_flags(README) == README, "run: python scripts/readme_flags.py"


def test_every_flag_that_the_readme_names_exists() -> None:
    known = {option for command in COMMANDS.values() for p in command.params for option in [*p.opts, *p.secondary_opts]}
    text = re.sub(r"pip install.*|docker run.*", "", README.replace("`pip install\n-c", "pip install -c"))
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]+", text)) <= known


def test_every_file_of_the_tree_exists_and_every_room_is_in_it() -> None:
    tree = README.split("## The files")[1].split("## Every command")[0]
    named = set(re.findall(r"[\w/]+\.(?:py|txt|md)|\w+/", tree))
    for name in named:
        places = [ROOT / name, ROOT / "amzrec" / name, ROOT / "amzrec" / "reviews" / name, ROOT / "scripts" / name]
        assert any(place.exists() for place in places), name
    rooms = {f"{path.name}/" for path in (ROOT / "amzrec").iterdir() if (path / "__init__.py").is_file()}
    assert rooms <= named


def test_the_changelog_knows_the_version() -> None:
    from amzrec import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_no_file_names_a_place_of_the_machine_it_was_written_on() -> None:
    for file in [*ROOT.glob("*.md"), *ROOT.glob("*.t*"), *ROOT.glob("amzrec/**/*.py"), *ROOT.glob("scripts/*")]:
        if file.is_file():
            assert not re.search(r"/work/|/home/\w|/root/", file.read_text()), file


def write_reviews(folder: Path) -> None:
    """The reviews.csv that the README speaks of."""
    lines = ["UserId,ItemId,Score"]
    lines += [f"u{u:02},p{p:02},{stars:g}" for part in checkerboard_reviews().values() for u, p, stars in part]
    (folder / "reviews.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.slow
def test_every_command_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_reviews(tmp_path)
    assert len(CONSOLE) > 10
    for line in CONSOLE:
        program, verb, *words = shlex.split(line)
        assert program == "amzrec"
        done = CliRunner().invoke(app, [verb, *words, *(SMALL if verb in ("train", "compare") else [])])
        assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception}"
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) == 2
    for code in blocks:
        exec(
            code.replace('"runs/mine", amzrec', '"runs/own", amzrec').replace('"mine"', '"own"').replace("=20", "=1"),
            {},
        )
