"""`amzrec serve`: a run as an HTTP service, with live events."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import importlib
import logging
import os
import resource
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from amzrec.config import ServeConfig
from amzrec.errors import SILENT, AmzrecError, Progress
from amzrec.service.workers import Ready, Workers, shared_figures
from amzrec.store.run import Run

if TYPE_CHECKING:
    from amzrec.service.service import Service

MANY = 4096  # open files for which there is room from the start
STOP = 30  # seconds in which requests that have begun are answered after the service was told to stop


def serve(
    run: Run | Path | str | None = None, config: ServeConfig | None = None, *, progress: Progress = SILENT
) -> None:
    """Serve a run (default: the latest) until the process is told to stop, and then answer what has begun.

    TensorFlow is not needed. SIGHUP opens the run again where it lies. Raises AmzrecError where the run, the events or
    the port cannot be used.
    """
    config = config or ServeConfig()
    try:
        with shared_figures() if config.workers > 1 else contextlib.nullcontext():
            from threadpoolctl import threadpool_limits

            importlib.import_module("amzrec.service.application")  # with all that may be missing
            where = run.path if isinstance(run, Run) else None if run is None else Path(run)
            speak()
            # requests are answered on threads, and threads that each start BLAS threads stand in each other's way:
            # measured, on two cores, 28 answers a second instead of 200
            with threadpool_limits(1, user_api="blas"), contextlib.closing(listening(config)) as listener:

                def ready(names: str) -> None:
                    progress.say(f"serving {names} at {address(listener)}")

                if config.workers == 1:
                    alone(where, config, listener, ready)
                else:
                    Workers(lambda tell, alive: alone(where, config, listener, tell, alive)).run(config.workers, ready)
    except ModuleNotFoundError as error:
        raise AmzrecError(
            f"serving needs a package that is not installed here ({error}): pip install 'amzrec[serve]'"
        ) from error


def alone(
    where: Path | None, config: ServeConfig, listener: socket.socket, ready: Ready, alive: int | None = None
) -> None:
    """Answer in this process until it is told to stop; `alive` ends when the process that made this one is gone."""
    import uvicorn

    from amzrec.service.application import application
    from amzrec.service.events import EventStore
    from amzrec.service.guard import Guard
    from amzrec.service.protocol import LINE, bounded, loop_factory
    from amzrec.service.runs import Shelf
    from amzrec.service.service import Service
    from amzrec.service.sharing import SharingServer
    from amzrec.service.telemetry import Telemetry

    make_room(listener)
    early = threading.Event()
    signal.signal(signal.SIGHUP, lambda *_: early.set())
    also = None if config.also is None else Path(config.also)
    shelf = Shelf(where, also, config.share, config.index, config.recall)
    store = None if config.events == "none" else EventStore.open(config.events)
    telemetry = Telemetry()
    service = Service(shelf, store, config, telemetry)
    if alive is not None:
        service.others = lambda: os.kill(os.getppid(), signal.SIGHUP)
    ready(", ".join(served.name for served, _ in shelf.now.all()))
    settings = uvicorn.Config(
        Guard(application(service), config, telemetry),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP,
        ws="none",
        http=bounded(LINE) or "h11",
        h11_max_incomplete_event_size=max(LINE, config.most_bytes),
    )
    gc.collect()
    gc.freeze()  # what is there now stays, and need not be looked through again: 50 ms each time
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again when all is answered
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        server = uvicorn.Server(settings) if alive is None else SharingServer(settings)
        runner.run(answer(server, service, listener, early, alive))


async def answer(
    server: object, service: Service, listener: socket.socket, early: threading.Event, alive: int | None = None
) -> None:
    """Answer requests until the process is told to stop; SIGHUP reloads, also where it came `early`."""
    import uvicorn

    assert isinstance(server, uvicorn.Server)
    reloads = set[asyncio.Task[None]]()

    async def reload() -> None:
        with contextlib.suppress(Exception):  # it was logged
            await service.reload()

    def hear() -> None:
        task = asyncio.create_task(reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    def orphaned() -> None:
        asyncio.get_running_loop().remove_reader(alive or 0)
        signal.raise_signal(signal.SIGTERM)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, hear)
    if alive is not None:
        loop.add_reader(alive, orphaned)
    if early.is_set():
        hear()
    await server.serve([listener])


def listening(config: ServeConfig) -> socket.socket:
    """Listen on the address; AmzrecError where that cannot be."""
    try:
        family = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((config.host, config.port), family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        raise AmzrecError(
            f"cannot listen on {config.host} port {config.port}: {getattr(error, 'strerror', None) or error}. Choose "
            "another --port (0: a free one), or another --host"
        ) from error
    # Accepted sockets inherit it. asyncio sets it for sockets that say they are TCP, which these do not; without it
    # each answer waits 40 ms for the client to acknowledge its headers
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def make_room(listener: socket.socket) -> None:
    """Let the table of open files grow now: when connections come, all threads wait some 20 ms each time it doubles."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    last = min(MANY, most if most != resource.RLIM_INFINITY else MANY) - 1
    with contextlib.suppress(OSError):
        os.close(fcntl.fcntl(listener, fcntl.F_DUPFD_CLOEXEC, last))


def address(listener: socket.socket) -> str:
    """Return the address of a listening socket as one types it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def speak() -> None:
    """Let the service write to standard error: its log as text, the access log as the JSON that it is."""
    for name, form in (("amzrec.access", "%(message)s"), ("amzrec.service", "%(asctime)s %(levelname)s %(message)s")):
        logger, handler = logging.getLogger(name), logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(form))
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
