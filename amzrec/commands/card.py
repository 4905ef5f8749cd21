"""`amzrec card`: a run as a model card, in Markdown for a repository and as a page for people."""

from __future__ import annotations

from pathlib import Path

from amzrec.answers.recommender import Recommender
from amzrec.errors import AmzrecError
from amzrec.page.blocks import html_page, markdown
from amzrec.page.modelcard import card_blocks
from amzrec.page.summary import summary
from amzrec.store.dataset import INFO, DatasetInfo
from amzrec.store.folders import asked_file
from amzrec.store.ownership import CARD, check_file, is_card
from amzrec.store.run import Run, open_run
from amzrec.store.vectors import REMEDY

MARKDOWN, HTML = ".md", ".html"


def card(
    run: Run | Path | str | None = None, out: Path | str = "model-card.md", *, overwrite: bool = False
) -> tuple[Path, Path]:
    """Write the model card of a run (default: the latest) as Markdown and as HTML; returns both files.

    `out` names one of the two, the other one stands beside it: model-card.md and model-card.html. They hold no customer
    ids and load nothing. Figures are those of `evaluate`; where there are none yet, the card says what to type. Each
    file is whole or absent. Raises AmzrecError for a missing run, and where `out` ends in neither .md nor .html, or one
    of the two is a file that amzrec did not write, or wrote and may not replace (`overwrite`).
    """
    out = Path(out)
    if out.suffix.lower() not in (MARKDOWN, HTML):
        raise AmzrecError(f"--out {out} names no model card: let it end in {MARKDOWN} or {HTML}")
    files = tuple(out if out.suffix.lower() == suffix else out.with_suffix(suffix) for suffix in (MARKDOWN, HTML))
    for file in files:
        check_file(file, "the model card", is_card, overwrite)
    run = open_run(run)
    found = summary(run, Recommender(run.vectors))
    blocks = card_blocks(run, found, dataset_info(run))
    texts = markdown(blocks, CARD), html_page(blocks, f"{found['run']} · model card", CARD)
    for file, text in zip(files, texts, strict=True):
        with asked_file(file, "the model card") as partial:
            partial.write_text(text, encoding="utf-8")
    return files[0], files[1]


def dataset_info(run: Run) -> DatasetInfo | None:
    """Read what the dataset of a run says of itself; None where that is gone, or another one stands there now."""
    if run.info.dataset is None:
        return None
    try:
        info = DatasetInfo.read(Path(run.info.dataset) / INFO, REMEDY)
    except AmzrecError:
        return None
    return info if info.fingerprint == run.info.fingerprint else None
