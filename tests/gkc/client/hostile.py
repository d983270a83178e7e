"""A server of raw sockets that answers whatever a test wants, however wrong; and right answers."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gkc import safetensors

SAFETENSORS = "application/x-safetensors"
PARTS = {"user": [0, 2], "item": [2, 4], "user_item": [4, 6], "user_category": [6, 7]}
GENERATION = "0000000001-aa"
CLOSE = "close"
RESET = "reset"
Piece = bytes | float | str
"""Bytes to send, seconds to pause, or how to end the connection."""


@dataclass(frozen=True)
class Asked:
    """A request as the server got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    nth: int

    @property
    def rows(self) -> int:
        tensors, _ = safetensors.load(self.body)
        return max(len(tensor) for tensor in tensors.values())


Reply = Callable[[Asked], Sequence[Piece]]


@dataclass
class Hostile:
    """A listening server and what it was asked."""

    url: str
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    is_over: threading.Event = field(default_factory=threading.Event)

    def posts(self) -> list[Asked]:
        return [each for each in self.asked if each.method == "POST"]


@contextmanager
def hostile(reply: Reply, host: str = "127.0.0.1") -> Iterator[Hostile]:
    """Serve what ``reply`` says; a thread a connection."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family)
    named = f"[{host}]" if ":" in host else host
    server = Hostile(f"http://{named}:{listener.getsockname()[1]}")
    open_sockets: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def accept() -> None:
        with suppress(OSError):  # the listener is closed at the end
            while True:
                connection, _ = listener.accept()
                server.connections += 1
                open_sockets.append(connection)
                thread = threading.Thread(target=_serve, args=(connection, server, reply))
                threads.append(thread)
                thread.start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield server
    finally:
        server.is_over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for connection in open_sockets:
            with suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def _serve(connection: socket.socket, server: Hostile, reply: Reply) -> None:
    with connection, suppress(OSError):  # the client hangs up whenever it likes
        stream = connection.makefile("rb")
        with stream:
            while (asked := _read(stream, len(server.asked))) is not None:
                server.asked.append(asked)
                for piece in reply(asked):
                    if isinstance(piece, float):
                        if server.is_over.wait(piece):
                            return
                    elif piece == CLOSE:
                        return
                    elif piece == RESET:
                        linger = struct.pack("ii", 1, 0)
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                        return
                    else:
                        assert isinstance(piece, bytes)
                        connection.sendall(piece)


def _read(stream: Any, nth: int) -> Asked | None:
    first = stream.readline().decode()
    if not first:
        return None
    method, path, _ = first.split(" ")
    headers = {}
    while (line := stream.readline().decode().strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", 0)))
    return Asked(method, path, headers, body, nth)


# ---- right answers, and pieces to make wrong ones of


def http(
    body: bytes, *, status: str = "200 OK", content_type: str = SAFETENSORS, **headers: str
) -> bytes:
    """Return a whole HTTP answer."""
    told = {"Content-Type": content_type, "Content-Length": str(len(body))}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in told.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def rows(n: int, **changes: Any) -> bytes:
    """Return the body that answers n rows, with some things changed."""
    told: dict[str, Any] = {
        "knowledge": np.arange(n * 7, dtype=np.float32).reshape(n, 7),
        "status": np.ones((n, 4), dtype=np.uint8),
        "versions": {"v1": GENERATION},
        "parts": PARTS,
    }
    told |= changes
    tensors = {
        name: np.ascontiguousarray(value)
        for name, value in told.items()
        if isinstance(value, np.ndarray)
    }
    metadata = {name: json.dumps(told[name]) for name in ("versions", "parts")}
    return b"".join(safetensors.dump(tensors, metadata))


def listing(generation: str = GENERATION, **entry: Any) -> bytes:
    """Return the answer to GET /versions."""
    told: dict[str, Any] = {
        "version": "v1",
        "generation": generation,
        "previous": None,
        "dtype": "f32",
    }
    told |= {"dim": 2, "category_dim": 1, **entry}
    body = json.dumps({"max_versions": 5, "versions": [told]}).encode()
    return http(body, content_type="application/json")


def problem(status: str, kind: str, *, detail: str = "because", **headers: str) -> bytes:
    """Return a problem."""
    told = {"type": f"urn:gkc:problem:{kind}", "title": kind, "detail": detail}
    body = json.dumps(told | {"status": int(status[:3])}).encode()
    return http(body, status=status, content_type="application/problem+json", **headers)


def right(asked: Asked) -> Sequence[Piece]:
    """Answer as a good service would."""
    return [listing() if asked.method == "GET" else http(rows(asked.rows))]
