"""Spreadsheets: each sheet as a text file of tabs, by python-calamine, which `pip install 'amzrec[xlsx]'` brings."""

from __future__ import annotations

import datetime
import itertools
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from amzrec.errors import AmzrecError, one_line
from amzrec.reviews.sources import packing
from amzrec.reviews.sources.plain import TextFile

if TYPE_CHECKING:
    from python_calamine import CalamineWorkbook

ENDINGS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
OLD = b"\xd0\xcf\x11\xe0"  # of xls, and of what Office encrypts
TOP = 20  # rows among which the header is

Cell = str | float | bool | datetime.date | datetime.time | datetime.timedelta


def is_workbook(path: Path) -> bool:
    """Return whether a file is a spreadsheet, whatever its name."""
    with path.open("rb") as file:
        start = file.read(4)
    return packing.is_sheet(path) if start == packing.ZIP else start == OLD and path.suffix.lower() != ".doc"


def sheets(file: TextFile, wanted: str, scratch: Path) -> list[TextFile]:
    """Write the sheets of a spreadsheet, or the `wanted` one, as text files in the folder `scratch`.

    Empty sheets are left out where there are others. Raises AmzrecError where the spreadsheet is damaged or encrypted,
    has no such sheet, and where nothing that reads it is installed.
    """
    book = opened(file)
    names = [sheet.name for sheet in book.sheets_metadata if str(sheet.typ).endswith("WorkSheet")]
    if wanted:
        found = [name for name in names if name == wanted] or [n for n in names if n.lower() == wanted.lower()]
        if not found:
            raise AmzrecError(f"{file.name} has no sheet {wanted!r}. Its sheets: {', '.join(names)}")
        names = found[:1]
    several = len(names) > 1
    written = [(name, written_sheet(book, name, file, scratch)) for name in names]
    filled = [(name, path) for name, path in written if path.stat().st_size] or written[:1]
    called = {name: f"{file.name}#{name}" if several or wanted else file.name for name, _ in filled}
    return [TextFile(called[name], path, file.constants) for name, path in filled]


def opened(file: TextFile) -> CalamineWorkbook:
    """Open a spreadsheet; raises AmzrecError where it cannot be read, or python-calamine is not installed."""
    try:
        import python_calamine
    except ImportError:
        raise AmzrecError(
            f"{file.name} is a spreadsheet: install what reads it with pip install 'amzrec[xlsx]', or save its sheet "
            "as CSV, and name that"
        ) from None
    try:
        packing.check_declared(file.path)
        return python_calamine.CalamineWorkbook.from_path(file.path)
    except python_calamine.PasswordError:
        raise AmzrecError(f"{file.name} is encrypted: save it without a password, and name that") from None
    except (python_calamine.CalamineError, OSError, zipfile.BadZipFile) as error:
        raise AmzrecError(
            f"{file.name} is a damaged spreadsheet, or another document ({one_line(error)}): save its sheet as CSV, "
            "and name that"
        ) from error


def written_sheet(book: CalamineWorkbook, name: str, file: TextFile, scratch: Path) -> Path:
    """Write a sheet into a file of the folder `scratch`, a line per row, so that line numbers are those of rows."""
    import python_calamine

    try:
        sheet = book.get_sheet_by_name(name)
        path = packing.free_name(scratch, "sheet")
        with path.open("w", encoding="utf-8", newline="") as target:
            target.writelines("\t".join(row) + "\n" if row else "\n" for row in table_rows(sheet.iter_rows()))
    except python_calamine.CalamineError as error:
        raise AmzrecError(
            f"the sheet {name!r} of {file.name} is damaged ({one_line(error)}): save it as CSV"
        ) from error
    if sheet.start is None:
        path.write_bytes(b"")
    return path


def table_rows(rows: Iterable[list[Cell]]) -> Iterator[list[str]]:
    """Yield the rows of a sheet as texts; those above its header, which have a title or nothing, as nothing.

    The header is the first row with more than half as many filled cells as the fullest row at the top.
    """
    texts = ([text_of(cell) for cell in row] for row in rows)
    top = list(itertools.islice(texts, TOP))
    filled = [sum(map(bool, row)) for row in top]
    header = next((n for n, count in enumerate(filled) if 2 * count > max(filled)), 0)
    yield from ([] for _ in range(header))
    yield from (row if any(row) else [] for row in itertools.chain(top[header:], texts))


def text_of(cell: Cell) -> str:
    """Return a cell as text: whole numbers without a point, dates with time, nothing that would part the line."""
    if isinstance(cell, bool):
        return str(int(cell))
    if isinstance(cell, float | int):
        return str(int(cell)) if cell == int(cell) and abs(cell) < 2**53 else repr(cell)
    if isinstance(cell, datetime.datetime):
        return cell.isoformat(sep=" ", timespec="seconds")
    if isinstance(cell, datetime.date):
        return f"{cell.isoformat()} 00:00:00"
    return " ".join(str(cell).replace("\t", " ").splitlines())
