"""`amzrec report`: a run as one HTML file that can be sent to somebody and opened without a server or a network."""

from __future__ import annotations

from pathlib import Path

from amzrec.answers.recommender import Recommender
from amzrec.errors import AmzrecError
from amzrec.page.files import report_page
from amzrec.page.summary import summary
from amzrec.store.folders import asked_file
from amzrec.store.ownership import check_file, is_report
from amzrec.store.run import Run, open_run

SUFFIXES = (".html", ".htm")


def report(run: Run | Path | str | None = None, out: Path | str = "report.html", *, overwrite: bool = False) -> Path:
    """Write a run (default: the latest) as a page: model beside baselines, slices, curves, what is recommended.

    It holds no customer ids, and loads nothing from elsewhere. Figures are those of `evaluate`; where there are none
    yet, the page says what to type. The file is whole or absent. Raises AmzrecError for a missing run, and where `out`
    does not end in .html, or is a file that amzrec did not write, or wrote and may not replace (`overwrite`).
    """
    out = Path(out)
    if out.suffix.lower() not in SUFFIXES:
        raise AmzrecError(f"--out {out} names no page: let it end in .html")
    check_file(out, "the report", is_report, overwrite)
    run = open_run(run)
    page = report_page(summary(run, Recommender(run.vectors)))
    with asked_file(out, "the report") as partial:
        partial.write_text(page, encoding="utf-8")
    return out
