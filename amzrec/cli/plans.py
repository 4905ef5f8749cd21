"""The document of `plan` as text for people."""

from __future__ import annotations

from amzrec.cli.reports import Document, paragraphs
from amzrec.cli.tables import table
from amzrec.config import flag

NAMES = {
    "preparing": "prepare",
    "training": "train",
    "answering": "recommend, beside mapped files",
    "serving": "serve, mapped files included",
    "run": "files of the run",
    "available": "left here now",
}


def planned(document: Document) -> str:
    """Write a plan: what was counted, the memory and the seconds of each stage, and whether it fits."""
    own, memory, seconds = document["own_vectors"], document["memory"], document["seconds"]
    counted = [(name, number) for name, number in document["rows"].items()]
    counted += [(f"{name}, with own vectors", own[name]) for name in own]
    counted += [(name, document[name]) for name in ("customers", "products")]
    counted += [("numbers learned", document["parameters"]["all"]), ("reviews per step", document["batch_size"])]
    counted += [(f"steps per epoch: {name}", number) for name, number in document["steps"].items()]
    stages = [(NAMES[name], f"{size / 1e9:.2f}") for name, size in memory.items() if size is not None]
    parts = [table(["what there is", "number"], counted), table(["memory at its peak", "GB"], stages)]
    if seconds:
        rows = [(name, f"{value:,.1f}") for name, value in seconds.items()]
        rows.append(("in all, if all epochs are needed", f"{document['seconds_in_all']:,.1f}"))
        parts.append(table(["time", "seconds"], rows))
    return paragraphs(*parts, fitting(document))


def fitting(document: Document) -> str:
    """Say whether a training fits into memory, and what to change where it does not."""
    if document["fits"]:
        return "It fits into the memory that is left here."
    changes = [
        f"  {flag(change['setting'])} {change['value']}: {change['training'] / 1e9:.1f} GB"
        for change in document["changes"]
    ]
    return "\n".join(["It does not fit into the memory that is left here. What takes less:", *changes])
