"""The documents say what is true: commands run and print what is shown, flags exist, files are there, figures agree."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import write_docs
from amzrec.cli.app import app
from conftest import ROOT, checkerboard_reviews
from shapes import follows, shape
from test_layers import LAYERS

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BY_NAME = {document.name: document.read_text() for document in DOCUMENTS}
README, ARCHITECTURE = BY_NAME["README.md"], BY_NAME["ARCHITECTURE.md"]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
SMALL = ["--epochs", "1", "--dim", "12", "--head", "4", "--no-refit"]


# --- what documents name is there


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_flag_has_help(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        if "--help" not in parameter.opts:
            assert parameter.help, f"{name} {parameter.name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_stands_in_the_readme(name: str) -> None:
    assert f"amzrec {name}" in README


def test_the_readme_has_at_most_200_lines() -> None:
    assert len(README.splitlines()) <= 200


@pytest.mark.parametrize("name", write_docs.DOCUMENTS)
def test_what_documents_take_from_the_code_is_up_to_date(name: str) -> None:
    assert write_docs.written(name) == BY_NAME[name], "run: python scripts/write_docs.py"


@pytest.mark.parametrize("name", BY_NAME)
def test_every_flag_that_a_document_names_exists(name: str) -> None:
    known = {option for command in COMMANDS.values() for p in command.params for option in [*p.opts, *p.secondary_opts]}
    known |= {"--help", "--version"}
    others = r"pip install.*|docker .*|saved_model_cli (.*\\\n)*.*"  # commands of other programs
    text = re.sub(others, "", BY_NAME[name].replace("`pip install\n-c", "pip install -c"))
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]+", text)) <= known


@pytest.mark.parametrize("name", BY_NAME)
def test_every_link_to_a_file_leads_to_one(name: str) -> None:
    document = next(path for path in DOCUMENTS if path.name == name)
    for target in re.findall(r"\]\((?!https?:)([\w./-]+)", BY_NAME[name]):
        assert (document.parent / target).exists(), target


def test_the_architecture_lists_the_layers_that_the_tests_check() -> None:
    block = re.search(r"```text layers\n(.*?)```", ARCHITECTURE, re.S)
    assert block
    assert block[1].split("\n")[:-1] == LAYERS


def test_the_architecture_names_every_file_of_the_package_and_no_other() -> None:
    files = {str(file.relative_to(ROOT / "amzrec")) for file in (ROOT / "amzrec").rglob("*.py")}
    named = set(re.findall(r"^- `([\w/]+\.py)`: ", ARCHITECTURE, re.M))
    rooms = {f"{room}/__init__.py" for room in re.findall(r"^### (\w+)/$", ARCHITECTURE, re.M)}
    assert named | rooms | {"__init__.py"} == files


def test_every_target_of_make_that_a_document_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {target for text in BY_NAME.values() for target in re.findall(r"(?:^|`)make ([a-z]+)", text, re.M)}
    assert named <= targets


def test_hooks_are_local_and_their_scripts_exist() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"repo: (\S+)", hooks) == ["local"]
    for script in re.findall(r"entry: python (\S+)", hooks):
        assert (ROOT / script).is_file()


def test_the_changelog_knows_the_version() -> None:
    from amzrec import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_no_file_names_a_place_of_the_machine_it_was_written_on() -> None:
    patterns = ("*.md", "docs/*.md", "benchmarks/*.md", "*.t*", ".*.yaml", "amzrec/**/*.py", "scripts/**/*.py")
    for file in (file for pattern in patterns for file in ROOT.glob(pattern)):
        assert not re.search(r"/work/|/home/\w|/root/", file.read_text()), file


# --- figures agree


def figures(text: str) -> Iterator[str]:
    """The numbers with three decimals or more, as digits after the point: 0.8820 and .8820 are both 8820."""
    for whole, decimals in re.findall(r"(?<![\d.])(\d*)\.(\d{3,4})(?!\d)", text):
        yield f"{whole.lstrip('0')}.{decimals}"


def test_every_figure_of_readme_and_figures_was_measured() -> None:
    sources = [*(ROOT / "benchmarks").glob("*.md"), ROOT / "LOG.md"]
    measured = {figure for file in sources for figure in figures(file.read_text())}
    rounded = {f"{float(figure):.3f}".lstrip("0") for figure in measured}
    for name in ("README.md", "figures.md"):
        prose = re.sub(r"```.*?```", "", BY_NAME[name], flags=re.S)
        assert set(figures(prose)) <= measured | rounded, name


# --- what documents show is what comes


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("   1  Orvane Tent   3.872  -2.404  392253922", "#|name|#|#|#"),
        ("popularity   -   0.0225  0.1095", "popularity|#|#|#"),
        ("----  -------", "rule|rule"),
        ("for 59294462", "for #"),
        ("read          8,735", "read|#"),
        ("known customer (1,561 rows)  0.59", "known customer (# rows)|#"),
    ],
)
def test_the_shape_of_a_line_has_its_words_and_no_numbers(line: str, wanted: str) -> None:
    assert shape(line) == wanted


def test_output_follows_what_is_shown_whatever_its_numbers_and_widths() -> None:
    found = "starting\nname   n\n----  --\nab     5\nc    123\ndone"
    assert follows(found, "…\nname  n\n----  -----\nab    1\n…\ndone") is None
    assert follows(found, "starting\n…") is None
    assert follows(found, "st…\n…") is None


def test_output_that_lacks_a_shown_line_or_has_more_does_not_follow() -> None:
    assert follows("a  1\nb  2", "…\nc  3\n…") == "c  3"
    assert follows("a  1\nb  2", "b  2") == "b  2"
    assert follows("a  1\nb  2", "a  1") == "nothing after line 1"


def console(text: str) -> list[tuple[str, str]]:
    """(command, shown output) of every `$` line in the console blocks; output may be left out after the command."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", text, re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, shown = part.partition("\n")
            found.append((command, shown))
    return found


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the documents' commands run, one after the other; reviews.csv and new.csv lie in it."""
    folder = tmp_path_factory.mktemp("workplace")
    lines = ["UserId,ItemId,Score"]
    lines += [f"u{u:02},p{p:02},{stars:g}" for part in checkerboard_reviews().values() for u, p, stars in part]
    (folder / "reviews.csv").write_text("\n".join(lines) + "\n")
    new = ["ann,p02,5", "ann,p04,4", "u03,p12,1", "u05,p02,2", "u07,new,3", lines[1]]
    (folder / "new.csv").write_text("\n".join([lines[0], *new]) + "\n")
    return folder


@pytest.mark.long
@pytest.mark.parametrize("name", BY_NAME)
def test_every_command_and_program_that_a_document_shows_runs(
    name: str, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    commands = console(BY_NAME[name])
    programs = re.findall(r"```python\n(.*?)```", BY_NAME[name], re.S)
    if (commands or programs) and not (workplace / "runs").exists() and name != "README.md":
        run("amzrec train")
    for command, shown in commands:
        output = run(command)
        missing = follows(output, shown)
        assert missing is None, f"{command} does not print: {missing}\n\n{output[:5000]}"
    for program in programs:
        exec(program.replace("=20", "=1"), {})


def run(command: str) -> str:
    """What a command prints, to both streams; trainings are made small."""
    program, verb, *words = shlex.split(command)
    assert program == "amzrec"
    done = CliRunner().invoke(app, [verb, *words, *(SMALL if verb in ("train", "compare") else [])])
    assert done.exit_code == 0, f"{command}\n{done.output}\n{done.exception}"
    return done.output
