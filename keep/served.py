"""Read knowledge from a running service, as a downstream model does in training and online."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from types import TracebackType
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from gkc.arrays import F32, I64
from gkc.errors import GkcError
from gkc.knowledge import PARTS
from gkc.knowledge import SAFETENSORS as SAFETENSORS

DTYPES = {"F32": "<f4", "F16": "<f2", "U8": "u1", "I32": "<i4", "I64": "<i8"}


class ServiceError(GkcError):
    """The service did not answer with knowledge."""

    def __init__(self, url: str, problem: str) -> None:
        self.url = url
        self.problem = problem
        super().__init__(f"service {url}: {problem}")


class ServedKnowledge:
    """Knowledge of one version from a running service; one connection, kept open.

    ``url`` is like ``http://127.0.0.1:8000``; ``timeout_seconds`` is the longest wait for the
    connection, and for each piece of an answer. ``status_counts`` sums up the status bytes of every
    answer: a row for each of ``PARTS``, columns absent, found, default.
    """

    def __init__(
        self, url: str, version: str, chunk_rows: int = 2000, timeout_seconds: float = 60.0
    ) -> None:
        parts = urlsplit(url)
        self.url = url
        self.version = version
        self.chunk_rows = chunk_rows
        self.status_counts: I64 = np.zeros((len(PARTS), 3), dtype=np.int64)
        self._connection = HTTPConnection(
            parts.hostname or "127.0.0.1", parts.port, timeout=timeout_seconds
        )

    def __enter__(self) -> ServedKnowledge:
        """Return itself; the connection opens with the first request."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self._connection.close()

    def __call__(self, users: I64, items: I64, categories: I64) -> F32:
        """Ask for the knowledge of rows, in chunks.

        Parameters
        ----------
        users, items, categories : ndarray, shape (n,), int64
            Raw ids, one row each.

        Returns
        -------
        ndarray, shape (n, 3 * D + D_c), float32
            Knowledge rows (equation 6).

        Raises
        ------
        ServiceError
            If the service cannot be reached or answers with a problem.
        """
        parts = []
        for start in range(0, len(users), self.chunk_rows):
            chunk = slice(start, start + self.chunk_rows)
            body = {
                "u": users[chunk].tolist(),
                "i": items[chunk].tolist(),
                "c": categories[chunk].tolist(),
                "v": self.version,
            }
            tensors = decode_safetensors(self.ask(body, SAFETENSORS))
            self._count(tensors["status"])
            parts.append(tensors["knowledge"].astype(np.float32))
        return np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32)

    def ask(self, body: dict[str, object], accept: str) -> bytes:
        """Send one ``POST /knowledge``.

        Raises
        ------
        ServiceError
            If the service cannot be reached or answers with a problem.
        """
        headers = {"Content-Type": "application/json", "Accept": accept}
        try:
            self._connection.request("POST", "/knowledge", json.dumps(body), headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, HTTPException) as exc:
            self._connection.close()
            raise ServiceError(self.url, f"cannot be reached ({exc}); is gkc serve on?") from exc
        if answer.status != 200:
            text = content.decode("utf-8", errors="replace")
            raise ServiceError(self.url, f"POST /knowledge answered {answer.status}: {text}")
        return content

    def _count(self, status: NDArray[np.generic]) -> None:
        for part in range(len(PARTS)):
            self.status_counts[part] += np.bincount(status[:, part].astype(np.int64), minlength=3)


def decode_safetensors(content: bytes) -> dict[str, NDArray[np.generic]]:
    """Read the tensors of a safetensors answer.

    It has eight bytes of header length, a JSON header, the tensors' bytes.
    """
    header_end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:header_end])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, _ = entry["data_offsets"]
        shape: Sequence[int] = entry["shape"]
        flat = np.frombuffer(
            content,
            dtype=DTYPES[entry["dtype"]],
            count=int(np.prod(shape)),
            offset=header_end + first,
        )
        tensors[name] = flat.reshape(shape)
    return tensors
