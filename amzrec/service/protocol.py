"""HTTP by httptools, with the bounds on what comes before a body that it lacks, and the loop that goes with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LINE = 1 << 16  # bytes that the address and the headers of a request may have, at least


def bounded(most: int) -> type[asyncio.Protocol] | None:
    """Return a protocol for uvicorn that refuses `most` bytes or more in which nothing ends; None without httptools.

    What has no end would fill the memory: an address, headers, or what may follow a body in parts. What is allowed is
    bounded by one read more.
    """
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        return None

    class Bounded(HttpToolsProtocol):
        """See `bounded`."""

        unended = 0  # bytes since something ended: headers, or a part of a body

        def data_received(self, data: bytes) -> None:
            """Read what came."""
            self.unended += len(data)
            super().data_received(data)
            if self.unended > most and not self.transport.is_closing():
                self.send_400_response("The address and the headers of this request are too long.")

        def on_headers_complete(self) -> None:
            """Begin to answer."""
            self.unended = 0
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            """Take a part of a body, whose size is bounded elsewhere."""
            self.unended = 0
            super().on_body(body)

    return Bounded


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes a loop of uvloop; None, for that of Python, where it is not installed."""
    try:
        import uvloop
    except ImportError:
        return None
    made: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return made
