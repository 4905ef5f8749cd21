"""Write what documents take from the code: flags into docs/flags.md, files into docs/ARCHITECTURE.md, layouts.

python scripts/write_docs.py
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from amzrec.cli.app import app
from amzrec.cli.program import OPTIONS
from amzrec.config import PRESETS
from amzrec.reviews.sources import FORMATS
from amzrec.settings import flag

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- below: python scripts/write_docs.py -->\n", "<!-- end of what the script writes -->\n"
ALWAYS = ("--help", "--help-all")


# --- docs/flags.md


def presets() -> list[str]:
    """One row per preset: the flags that it stands for."""
    rows = ["| preset | stands for |", "|---|---|"]
    for name, settings in PRESETS.items():
        told = {key: value for key, value in settings.items() if value is not None and key != "batch_size"}
        words = [spelled(key, value) for key, value in told.items()]
        rows.append(f"| `--preset {name}` | {'`' + ' '.join(words) + '`' if words else 'the defaults'} |")
    return rows


def spelled(name: str, value: object) -> str:
    """A setting as it is typed."""
    if isinstance(value, bool):
        return flag(name) if value else flag(f"no_{name}")
    return f"{flag(name)} {value:g}" if isinstance(value, float) else f"{flag(name)} {value}"


def parameters(command: Any) -> dict[str, list[tuple[str, str]]]:
    """{heading: [(spelling, help)]} of every argument and flag, in the groups of --help-all."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.params:
        names = [*getattr(parameter, "opts", []), *getattr(parameter, "secondary_opts", [])]
        if parameter.param_type_name == "argument":
            names = [str(parameter.human_readable_name).strip("[]")]
        elif not getattr(parameter, "is_flag", False):
            names[-1] += f" {parameter.metavar}" if parameter.metavar else ""
        if not set(names) & set(ALWAYS):
            heading = getattr(parameter, "rich_help_panel", None) or OPTIONS
            groups.setdefault(heading, []).append((" / ".join(names), parameter.help or ""))
    return groups


def tables() -> list[str]:
    """A section per command, a table per group; flags that an earlier command explained are only named."""
    lines, explained = list[str](), set[tuple[str, str]]()
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        lines += [f"## amzrec {name}", "", " ".join((command.help or "").split()), ""]
        again = list[str]()
        for heading, rows in parameters(command).items():
            fresh = [row for row in rows if row not in explained]
            again += [f"`{spelling.split()[0]}`" for spelling, text in rows if (spelling, text) in explained]
            explained |= {row for row in rows if row[0].startswith("-")}
            if fresh:
                lines += [f"| {heading} | |", "|---|---|"]
                lines += [f"| {cell(f'`{spelling}`')} | {cell(text)} |" for spelling, text in fresh]
                lines.append("")
        if again:
            lines += [f"As above: {', '.join(again)}.", ""]
    return lines


def cell(text: str) -> str:
    """Text inside of a Markdown table."""
    return text.replace("|", "\\|")


def flags() -> list[str]:
    """The presets, and every command with its flags."""
    return [*presets(), "", *tables()]


# --- docs/ARCHITECTURE.md


def rooms() -> list[str]:
    """A section per room with a line per file, in the order of the layers: what its docstring says first."""
    lines = list[str]()
    for room in layers():
        place = ROOT / "amzrec" / room
        if place.is_dir():
            lines += [f"### {room}/", "", first_line(place / "__init__.py"), ""]
            files = sorted(place.rglob("*.py"), key=lambda file: (len(file.parts), file))
            lines += [line_of(file) for file in files if file != place / "__init__.py"]
            lines.append("")
        else:
            lines += [line_of(place.with_suffix(".py")), ""]
    return lines


def layers() -> list[str]:
    """The rooms and files of the list of layers in docs/ARCHITECTURE.md."""
    return (ROOT / "docs" / "ARCHITECTURE.md").read_text().split("```text layers\n")[1].split("```")[0].split()


def line_of(file: Path) -> str:
    """A file and what it is for."""
    return f"- `{file.relative_to(ROOT / 'amzrec')}`: {first_line(file)}"


def first_line(file: Path) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(file.read_text())) or "").splitlines()[0]


# --- docs/sources.md


def layouts() -> list[str]:
    """A row per layout that --format takes."""
    return ["| `--format` | |", "|---|---|", *(f"| `{name}` | {cell(about)} |" for name, about in FORMATS.items()), ""]


# --- all

DOCUMENTS: dict[str, Callable[[], list[str]]] = {"flags.md": flags, "ARCHITECTURE.md": rooms, "sources.md": layouts}


def written(name: str) -> str:
    """The document with everything between its markers made anew."""
    before, rest = (ROOT / "docs" / name).read_text().split(START)
    return before + START + "\n" + "\n".join(DOCUMENTS[name]()) + END + rest.split(END)[1]


if __name__ == "__main__":
    for document in DOCUMENTS:
        (ROOT / "docs" / document).write_text(written(document))
