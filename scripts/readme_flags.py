"""Write every command and flag into README.md, from the command line itself.  python scripts/readme_flags.py"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from amzrec.cli.app import app

README = Path(__file__).resolve().parents[1] / "README.md"
START, END = "<!-- flags: python scripts/readme_flags.py -->\n", "<!-- end of flags -->"


def parameters(command: Any) -> list[tuple[str, str]]:
    """(spelling, help) of every argument and flag but --help."""
    found = []
    for parameter in command.params:
        names = [*getattr(parameter, "opts", []), *getattr(parameter, "secondary_opts", [])]
        spelled = " / ".join(names) if parameter.param_type_name == "option" else parameter.name.upper()
        if "--help" not in names:
            found.append((spelled, parameter.help or ""))
    return found


def flags_table() -> str:
    """One Markdown table per command; a flag that several commands have is explained with the first."""
    parts, seen = [], set[tuple[str, str]]()
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        rows = parameters(command)
        fresh = [row for row in rows if row not in seen]
        seen |= {row for row in rows if row[0].startswith("-")}
        lines = [f"| `{spelled}` | {text.replace('|', chr(92) + '|')} |" for spelled, text in fresh]
        also = ", ".join(f"`{spelled}`" for spelled, _ in rows if (spelled, _) not in fresh)
        heading = f"**`amzrec {name}`** — {(command.help or '').splitlines()[0]}"
        parts += [heading, "", "| | |", "|---|---|", *lines, ""]
        if also:
            parts += [f"and, as above: {also}", ""]
    return "\n".join(parts)


def with_flags(readme: str) -> str:
    """The README with the table between its markers made anew."""
    before, rest = readme.split(START)
    return before + START + "\n" + flags_table() + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    README.write_text(with_flags(README.read_text()))
