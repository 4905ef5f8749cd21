"""All that can be checked of a folder of amzrec, with each thing that is wrong and what to type."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from amzrec.errors import AmzrecError
from amzrec.store.dataset import PARTS, Dataset, open_dataset
from amzrec.store.documents import NewerFormat, UnknownKey
from amzrec.store.manifest import Damaged, Manifest, json_of, listed, read_manifest
from amzrec.store.ownership import DATASET_FOLDER, EXPORT_FOLDER, KINDS, MANIFEST, RUN_FOLDER, Kind
from amzrec.store.run import METRICS, PLOTS, Run, open_run


class Finding(NamedTuple):
    """Something that was looked at."""

    what: str
    ok: bool
    found: str
    remedy: str = ""  # what to type where it is not ok


def kind_of(folder: Path) -> Kind:
    """Tell which kind of folder stands there; AmzrecError where it is none of amzrec."""
    if not folder.exists():
        raise AmzrecError(
            f"there is no folder {folder}: name a run, a dataset, an export or a store of events, or leave it out"
        )
    kinds = [kind for kind in KINDS if kind.listed]
    kind = next((kind for kind in kinds if (folder / kind.marker).is_file()), None)
    if kind is None and (folder / MANIFEST).is_file():
        named = json_of(folder / MANIFEST).get("kind")
        kind = next((kind for kind in kinds if kind.name == named), None)
    if kind is None:
        markers = ", ".join(kind.marker for kind in kinds)
        if folder.is_file():
            raise AmzrecError(
                f"{folder} is no SQLite file of events: name that, or the folder of a run, dataset or export"
            )
        raise AmzrecError(f"{folder} is no run, no dataset and no export of amzrec: it has none of {markers}")
    return kind


def findings(folder: Path) -> Iterator[Finding]:
    """Check a run, a dataset or an export: all checksums, and all that its files must be for each other.

    Also a store of events in SQLite. Raises AmzrecError where it is none of them.
    """
    if folder.is_file():
        from amzrec.store.seals import findings_of, is_store

        if is_store(folder):
            yield from (Finding(*finding) for finding in findings_of(folder))
            return
    kind = kind_of(folder)
    marker = json_of(folder / kind.marker)
    again, right = remedy_of(folder, kind, marker), True
    identity = marker.get("identity")
    try:
        manifest = read_manifest(folder, kind, identity if isinstance(identity, str) else "")
    except AmzrecError as error:
        yield wrong_one(MANIFEST, error, folder, kind, again)
    else:
        if manifest is None:
            yield Finding(MANIFEST, True, "none: the folder is of before there were checksums of all files")
        else:
            yield Finding(MANIFEST, True, f"{kind.name} {manifest.identity}")
        for finding in files(folder, kind, manifest, again) if manifest is not None else ():
            right = right and finding.ok
            yield finding
        if right:
            yield from contents(folder, kind, again)


def remedy_of(folder: Path, kind: Kind, marker: dict[str, object]) -> str:
    """Say how a folder is made again, with its source where its describing document still names one."""
    text = kind.remedy(folder)
    key = "dataset" if kind is RUN_FOLDER else "run" if kind is EXPORT_FOLDER else "source"
    named = marker.get(key)
    placeholder = "RUN " if kind is EXPORT_FOLDER else "SOURCE "
    if kind is not RUN_FOLDER or not isinstance(named, str) or not Path(named).exists():
        return text
    return text.replace(placeholder, f"{shlex.quote(named)} ", 1)


def files(folder: Path, kind: Kind, manifest: Manifest, again: str) -> Iterator[Finding]:
    """Compare all files with the manifest."""
    wrong = 0
    for name in sorted(manifest.files | manifest.replacing):
        try:
            manifest.check_content(folder, name)
        except (Damaged, OSError) as error:
            wrong += 1
            measured = kind is RUN_FOLDER and (name.startswith((METRICS.removesuffix(".json"), PLOTS)))
            yield Finding(name, False, str(error), f"amzrec evaluate {shlex.quote(str(folder))}" if measured else again)
    there = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    for name in sorted(there - {MANIFEST, *manifest.files, *manifest.replacing}):
        if listed(name, kind):
            yield Finding(name, True, "is not in the manifest, so it is not known whether it is whole")
        else:
            yield Finding(name, True, "is not of amzrec: it is let be, and keeps the folder from being replaced")
    if not wrong:
        size = sum(entry.size for entry in manifest.files.values())
        yield Finding("files", True, f"{len(manifest.files):,}, {size / 1e6:,.1f} MB: all are what was written")


def contents(folder: Path, kind: Kind, again: str) -> Iterator[Finding]:
    """Open a folder as commands do, and read all of it."""
    looked: list[tuple[str, Callable[[], str]]] = []
    if kind is RUN_FOLDER:
        looked = [("vectors", lambda: run_found(open_run(folder)))]
    elif kind is DATASET_FOLDER:
        looked = [("reviews", lambda: dataset_found(open_dataset(folder)))]
    for what, look in looked:
        try:
            yield Finding(what, True, look())
        except AmzrecError as error:
            yield wrong_one(what, error, folder, kind, again)


def run_found(run: Run) -> str:
    """Read all of a run, and say what is in it."""
    vectors = run.verified()
    return (
        f"{len(vectors.customer_ids) - 1:,} customers, {len(vectors.product_ids) - 1:,} products, "
        f"{len(vectors.seen_product):,} reviews"
    )


def dataset_found(dataset: Dataset) -> str:
    """Read all of a dataset, and say what is in it."""
    sizes = ", ".join(f"{len(dataset.part(name)):,} {name}" for name in PARTS)
    return f"{dataset.customers.num_rows - 1:,} customers, {dataset.products.num_rows - 1:,} products; {sizes}"


def wrong_one(what: str, error: AmzrecError, folder: Path, kind: Kind, again: str) -> Finding:
    """Make a finding of an error, without what to type, which stands beside it."""
    if isinstance(error.__cause__, NewerFormat | UnknownKey):
        return Finding(what, False, str(error), "pip install --upgrade amzrec")
    text = str(error).removeprefix(f"{kind.name} {folder} is damaged: ")
    return Finding(what, False, text.partition(f". {kind.again[:8].capitalize()}")[0], again)
