"""A server that shares a port with others: each takes as many connections as it has time for."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from typing import Any

import uvicorn

LOG = logging.getLogger("amzrec.service")
FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})  # no room for one more connection
PAUSE = 1.0  # seconds until it is tried again


class SharingServer(uvicorn.Server):
    """A server of uvicorn that takes one connection at a time from the sockets that it shares.

    Loops take all connections that wait at once. Where many come together, as after a start, one process had nine in
    ten of them and no time left, while the other had nothing to do (measured: 823 of 896, and 228 ms instead of 3).
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take connections."""
        await super().startup([])
        self.tasks = set[asyncio.Task[Any]]()
        for listener in sockets or []:
            listener.setblocking(False)
            asyncio.get_running_loop().add_reader(listener, self.take, listener)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, and let those that are there end."""
        for listener in sockets or []:
            asyncio.get_running_loop().remove_reader(listener)
        await super().shutdown(sockets)

    def take(self, listener: socket.socket) -> None:
        """Take one connection, unless another process was faster."""
        loop = asyncio.get_running_loop()
        try:
            connection, _ = listener.accept()
        except OSError as error:
            if error.errno in FULL:  # the connections wait
                LOG.error("no connection can be taken: %s", error)
                loop.remove_reader(listener)
                loop.call_later(PAUSE, self.again, listener)
            return
        connection.setblocking(False)
        task = loop.create_task(self.hold(connection))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def again(self, listener: socket.socket) -> None:
        """Go on to take connections, unless the server ends."""
        if not self.should_exit:
            asyncio.get_running_loop().add_reader(listener, self.take, listener)

    async def hold(self, connection: socket.socket) -> None:
        """Let the protocol of the server speak with a connection."""

        def protocol() -> asyncio.Protocol:
            kind: Any = self.config.http_protocol_class
            made: asyncio.Protocol = kind(self.config, self.server_state, self.lifespan.state)
            return made

        with contextlib.suppress(OSError):  # it is gone
            await asyncio.get_running_loop().connect_accepted_socket(protocol, connection)
