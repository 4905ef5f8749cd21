"""update: new reviews into the vectors, the memory, the popularity and the seen lists of a run, without training."""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path
from typing import Any

from amzrec.config import PrepareConfig
from amzrec.errors import SILENT, Progress
from amzrec.reviews.cache import sources_of
from amzrec.store.documents import plain
from amzrec.store.folders import whole_folder
from amzrec.store.history import HISTORY
from amzrec.store.manifest import new_identity
from amzrec.store.ownership import RUN_FOLDER, check_folder
from amzrec.store.run import RUN, Run, open_run
from amzrec.store.vectors import Writing, write_vectors
from amzrec.store.weights import WEIGHTS


def update(
    run: Run | Path | str,
    reviews: Any,
    out: Path | str,
    config: PrepareConfig | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Run:
    """Write the run folder `out`: `run` with new reviews, as if their customers had come with them; nothing is trained.

    `reviews` are any source, such as a file or the events of the service; `config` says how they are read, and what
    names a product is as the run has it. A review of a customer and a product that the run has already replaces the
    old one where it is later. New customers are answered from their reviews, new products enter the catalogue, and
    what is popular is counted to the new end of the data. `info.updates` of the run that is returned says what came in.
    Raises AmzrecError for a source without a review, for a run that reviews cannot enter, and for an `out` that exists
    where `overwrite` is not given, or that is `run` itself.
    """
    from amzrec.renewal.arrivals import Arrivals
    from amzrec.renewal.reading import new_reviews
    from amzrec.renewal.renewed import check_updatable, renewed

    run, out = open_run(run), Path(out)
    sources = [run.path, *sources_of(reviews, config)]
    check_folder(out, RUN_FOLDER, overwrite, sources)
    check_updatable(run)
    started = time.monotonic()
    with new_reviews(run, reviews, config or PrepareConfig(), progress) as dataset:
        arrivals = Arrivals.of(run.vectors, dataset)
        with whole_folder(out, RUN_FOLDER, overwrite, sources, private=True) as work:
            writing = Writing(work)
            vectors, tally = renewed(run, arrivals, progress, writing.put)
            came: dict[str, Any] = {"run": str(run.place), "source": dataset.info.source} | plain(tally)
            came["rejected"] = sum(dataset.info.counts.rejected.values())
            write_vectors(work, vectors, writing)
            if (run.folder / HISTORY).is_file():
                shutil.copyfile(run.folder / HISTORY, work / HISTORY)
            if (run.folder / WEIGHTS).is_dir():  # of the training; what `train --from` the new run goes on from
                shutil.copytree(run.folder / WEIGHTS, work / WEIGHTS)
            came["seconds"] = round(time.monotonic() - started, 1)
            info = dataclasses.replace(
                run.info,
                finished=time.time(),
                updates=(*run.info.updates, came),
                evaluated=None,
                identity=new_identity(),
            )
            info.write(work / RUN)
    return open_run(out).remembered()
