"""history.csv of a run folder: one row per epoch of its training, with losses, figures on valid and speed."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from amzrec.errors import AmzrecError

HISTORY = "history.csv"


def write_history(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows; one that lacks a column of another has an empty cell there."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with (folder / HISTORY).open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def read_history(folder: Path, place: Path | None = None) -> list[dict[str, str]]:
    """Read the rows, as texts by column, each with a number in "epoch"; none where there is no file.

    Raises AmzrecError where it is no table of epochs, which calls the folder `place`.
    """
    try:
        with (folder / HISTORY).open(newline="", encoding="utf-8") as file:
            rows = [{name: text for name, text in row.items() if isinstance(name, str)} for row in csv.DictReader(file)]
        for row in rows:
            int(row["epoch"])
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        said = f"{(place or folder) / HISTORY} cannot be read ({error}): remove that file, or train again"
        raise AmzrecError(said) from error
    return rows
