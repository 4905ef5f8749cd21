"""Tables in Markdown, and the sections of benchmarks/ that they are written into."""

from __future__ import annotations

import os
import time
from pathlib import Path


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """Lay out a Markdown table; all columns but the first one are numbers, to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def section(file: Path | None, heading: str, text: str, title: str = "Speed") -> None:
    """Print a section, and put it in the place of the one of that heading in a Markdown file.

    It ends with the day and with how busy the machine was.
    """
    load = " / ".join(f"{average:.1f}" for average in os.getloadavg())
    text += f"\n\n{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load average of 1 / 5 / 15 minutes {load}."
    print(f"## {heading}\n\n{text}")
    if file:
        old = (
            file.read_text()
            if file.exists()
            else f"# {title}\n\nThe machine was shared: trust the ratios, and of those the ones of CPU time.\n"
        )
        parts = [part for part in old.split("\n## ") if not part.startswith(f"{heading}\n")]
        file.write_text("\n## ".join([*(part.rstrip() + "\n" for part in parts), f"{heading}\n\n{text}\n"]))


def described_by(doc: str | None) -> str:
    """What a script says about itself below its commands: the text that belongs to its figures."""
    return (doc or "").split("\n\n", 2)[2].strip()
