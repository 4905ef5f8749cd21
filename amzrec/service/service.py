"""What all routes share: the runs, the desk that answers from them, the threads that it works on, and reloading."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi.responses import JSONResponse

from amzrec.answers.listing import Document
from amzrec.config import ServeConfig
from amzrec.errors import AmzrecError
from amzrec.service.desk import Desk, Refused
from amzrec.service.events import EventStore
from amzrec.service.questions import Recommend
from amzrec.service.runs import LOG, Runs, Shelf
from amzrec.service.telemetry import Telemetry

T = TypeVar("T")

LATE = "this was not answered within {:g} s (--timeout)"


class Service:
    """One service; see the module."""

    def __init__(self, shelf: Shelf, store: EventStore | None, config: ServeConfig, telemetry: Telemetry) -> None:
        self.shelf, self.store, self.config, self.telemetry = shelf, store, config, telemetry
        self.desk = Desk(store, config.weights(), config.most_k)
        self.threads = ThreadPoolExecutor(thread_name_prefix="answers")
        self.waiting, self.counting = 0, threading.Lock()  # questions whose answers are not made yet
        self.reloading = ThreadPoolExecutor(1, "reload")
        self.others: Callable[[], None] = lambda: None  # lets other workers of this service open the runs again, too
        telemetry.show_runs(shelf.now)

    async def work(self, answer: Callable[[], T], questions: int = 1) -> T:
        """Make the answer to some questions on a thread.

        Raises Refused: 503 at once where too many wait already, 504 where it takes too long.
        """
        if questions:
            self.need_room()
        self.count(questions)
        made = self.threads.submit(answer)
        made.add_done_callback(lambda _: self.count(-questions))  # also where nobody waits for it any more
        try:
            return await asyncio.wait_for(asyncio.wrap_future(made), self.config.timeout)
        except TimeoutError:
            raise Refused(504, LATE.format(self.config.timeout)) from None

    async def quickly(self, runs: Runs, asked: Recommend) -> Document | None:
        """Answer a question that is quick in any case here and now; None where it may not be.

        To hand it to a thread and back takes some 0.1 ms, an eighth of the answer. All that came together count as
        waiting before the first of them is answered, and the same bounds hold. Raises Refused as `work` does.
        """
        if not self.desk.is_quick(runs, asked):
            return None
        self.need_room()
        begun = time.monotonic()
        self.count(1)
        try:
            await asyncio.sleep(0)  # so that others that came are counted
            if time.monotonic() - begun > self.config.timeout:
                raise Refused(504, LATE.format(self.config.timeout))
            return self.desk.recommend_quickly(runs, asked)
        finally:
            self.count(-1)

    def need_room(self) -> None:
        """Raise Refused where too many questions wait already."""
        if self.waiting >= self.config.most_waiting:
            raise Refused(503, f"{self.waiting} questions wait already (--most-waiting): try again")

    def count(self, questions: int) -> None:
        """Count questions that wait (or below 0: no longer)."""
        with self.counting:
            self.waiting += questions
            self.telemetry.waiting.set(self.waiting)

    async def ask(
        self, answer: Callable[[Runs, Any], Document], asked: Any, counts: Sequence[int] = ()
    ) -> JSONResponse:
        """Answer one question, or a list of them, all from the runs of now."""
        runs, single = self.shelf.now, not isinstance(asked, list)
        self.desk.need_k(counts)
        quick = await self.quickly(runs, asked) if isinstance(asked, Recommend) else None
        if quick is not None:
            self.telemetry.count_answer(quick)
            return JSONResponse(quick)

        def documents() -> list[Document]:
            found = []
            for number, each in enumerate([asked] if single else asked):
                try:
                    found.append(answer(runs, each))
                except (Refused, AmzrecError) as error:
                    if single:
                        raise
                    raise Refused(getattr(error, "status", 400), f"request {number}: {error}") from None
            return found

        made = await self.work(documents, 1 if single else len(asked))
        for document in made:
            self.telemetry.count_answer(document)
        return JSONResponse(made[0] if single else made)

    async def reload(self) -> Runs:
        """Open the runs again; AmzrecError, and the old ones go on answering, where that cannot be."""
        try:
            runs = await asyncio.get_running_loop().run_in_executor(self.reloading, self.shelf.reload)
        except Exception as error:
            self.telemetry.reloads.labels("failed").inc()
            LOG.error("not reloaded, the run before goes on answering: %s", error)
            raise
        self.telemetry.reloads.labels("done").inc()
        self.telemetry.show_runs(runs)
        LOG.info("reloaded: %s", ", ".join(served.name for served, _ in runs.all()))
        return runs

    async def watch(self, every: float = 1.0) -> None:
        """Reload whenever another run lies, or is linked, where the runs are."""
        tried = self.shelf.stamp
        while True:
            await asyncio.sleep(every)
            found = await asyncio.to_thread(self.shelf.look)
            if found != tried and all(folder for folder, _, _ in found):
                tried = found
                with contextlib.suppress(Exception):  # it was logged; the next change is tried again
                    await self.reload()

    def close(self) -> None:
        """Store what waits, and end."""
        self.threads.shutdown(wait=False, cancel_futures=True)
        if self.store is not None:
            self.store.close()
