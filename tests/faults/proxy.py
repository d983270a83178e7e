"""A proxy before a Redis server: repeats, drops, changes or slows down what the server says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

Change = Callable[[bytes], bytes]


class Proxy:
    """Passes bytes on, those of the server through `change`.

    Parameters
    ----------
    port : int
        Of the server, on this machine.

    Attributes
    ----------
    change : callable
        May be replaced at any moment.
    bytes_per_second : float
        At which the answers of each connection pass; may be replaced, too.
    url : str
    """

    def __init__(self, port: int) -> None:
        self.change: Change = bytes
        self.bytes_per_second = float("inf")
        self.url = ""
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._listening, self._stopping = Event(), asyncio.Event()
        self._thread = Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    def start(self) -> None:
        self._thread.start()
        assert self._listening.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        connections: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.add(asyncio.create_task(self._pass_on(reader, writer)))

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        self._listening.set()
        await self._stopping.wait()
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, server = await asyncio.open_connection("127.0.0.1", self._port)

        async def copy(
            source: asyncio.StreamReader, target: asyncio.StreamWriter, change: Change
        ) -> None:
            with suppress(OSError):
                while data := await source.read(65536):
                    target.write(change(data))
                    if change is changed:
                        await asyncio.sleep(len(data) / self.bytes_per_second)
            target.close()

        changed: Change = lambda data: self.change(data)  # noqa: E731 - as it is at that moment
        await asyncio.gather(copy(reader, server, bytes), copy(answers, writer, changed))


@contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    """Run a proxy to a port of this machine, in a thread."""
    proxy = Proxy(port)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
