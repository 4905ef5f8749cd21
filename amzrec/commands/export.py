"""`amzrec export`: a run as a SavedModel that stock TensorFlow serves and as a ScaNN index, both checked."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from amzrec.answers.recommender import Recommender
from amzrec.answers.scann import BRUTE_UNTIL, ScannIndex, without_scann
from amzrec.errors import SILENT, AmzrecError, Progress
from amzrec.store.folders import whole_folder
from amzrec.store.manifest import new_identity
from amzrec.store.ownership import EXPORT_FOLDER
from amzrec.store.run import Run, open_run
from amzrec.store.vectors import Vectors

FACTS = EXPORT_FOLDER.marker


def export(
    run: Run | Path | str | None = None,
    out: Path | str = Path("export"),
    *,
    onnx: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Write `out/` with saved_model/, scann/ (where ScaNN can be used) and README.md, from the vectors of a run.

    With `onnx` also onnx/: the rating head, and the query of a customer after more reviews; AmzrecError without the
    package onnx.
    Ends by loading all of it in a clean process and comparing its answers with the vectors on a sample of customers;
    AmzrecError, and no folder, where they differ or cannot be written. `overwrite` replaces an earlier export only.
    """
    run, out = open_run(run), Path(out)
    vectors = run.verified()
    if not len(vectors.candidates):
        raise AmzrecError(
            f"run {run.path} has no products to recommend, so there is nothing to export: train on reviews"
        )
    from amzrec.exports import onnx_graphs
    from amzrec.exports.check import check_export
    from amzrec.exports.readme import README

    if onnx and (missing := onnx_graphs.without_onnx()):
        raise AmzrecError(f"ONNX needs a package that is not installed here ({missing}): pip install 'amzrec[onnx]'")
    with whole_folder(out, EXPORT_FOLDER, overwrite, [run.path]) as partial:
        kind = save(vectors, partial, progress)
        if onnx:
            onnx_graphs.save(vectors, partial)
            if vectors.attention:
                progress.say("exported without fold_in.onnx: liked products of this run are read through attention")
        progress.step("export", 2, 3, "checking in a clean process")
        checked = check_export(partial, vectors, kind is not None)
        facts = {
            "run": run.name,
            "run_identity": run.info.identity,
            "identity": new_identity(),
            "products": len(vectors.candidates),
            "customers": len(vectors.customer_ids) - 1,
            "scann": kind,
            "checked_customers": checked,
        }
        (partial / FACTS).write_text(json.dumps(facts, indent=1))
        (partial / "README.md").write_text(README)
        progress.step("export", 3, 3, "done")
    progress.say(f"exported {facts['products']:,} products; checked on {checked} customers in a clean process: {out}")
    return out


def save(vectors: Vectors, folder: Path, progress: Progress) -> str | None:
    """Write the models and the index, and return how ScaNN searches: "all", "approximate", or None without it.

    Raises OSError where that fails.
    """
    from amzrec.exports.check import SAVED_MODEL, SCANN_INDEX, SCANN_MODEL
    from amzrec.exports.saved_model import Served, ServedScann, tf

    rated = Recommender(vectors).has_stars
    rows = np.ascontiguousarray(vectors.candidates)
    reason = without_scann()
    kind = None if reason else "all" if len(rows) < BRUTE_UNTIL else "approximate"
    try:
        with tempfile.TemporaryDirectory(dir=folder) as assets:
            progress.step("export", 0, 3, "SavedModel")
            Served(vectors, Path(assets), rated).save(folder / SAVED_MODEL)
            progress.step("export", 1, 3, "ScaNN")
            if kind:
                (folder / SCANN_INDEX).mkdir(parents=True)
                ScannIndex.build(vectors.retrieval_candidate[rows], rows).save(folder / SCANN_INDEX)
                ServedScann(vectors, Path(assets), rated).save(folder / SCANN_MODEL)
    except tf.errors.InvalidArgumentError:
        raise
    except tf.errors.OpError as error:  # a full disk or a forbidden place, as TensorFlow puts it
        raise OSError(str(error.message).strip().splitlines()[0]) from error
    if reason:
        progress.say(f"exported without ScaNN: {reason}; {SAVED_MODEL}/ is whole and searches exactly")
    elif kind == "all":
        progress.say(f"{len(rows):,} products are too few for approximate search: ScaNN compares all of them, exactly")
    return kind
