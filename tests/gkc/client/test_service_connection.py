"""HTTP/1.1 as others may speak it: chunks, other heads, TLS, IPv6."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from gkc.errors import DeadlineExceededError, ServiceError
from tests.gkc.client.clients import Open
from tests.gkc.client.hostile import CLOSE, Asked, Piece, hostile, http, listing, right, rows
from tests.redis_server import make_certificate

ASK = {"u": 7, "i": [1, 2, 3], "v": "v1"}
WIDE = 20.0
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-safetensors\r\n"


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[k : k + size] for k in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in [*pieces, b""])


WAYS: dict[str, Sequence[Piece]] = {
    "in chunks": [HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(rows(3), 7)],
    "chunks in drops": [
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
        *(bytes([b]) for b in chunked(rows(3), 50)),
    ],
    "up to the end": [HEAD + b"Connection: close\r\n\r\n" + rows(3), CLOSE],
    "after a hint": [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + http(rows(3))],
    "in two halves": [http(rows(3))[:77], 0.02, http(rows(3))[77:]],
    "byte by byte": [bytes([b]) for b in http(rows(3))],
    "HTTP/1.0": [http(rows(3)).replace(b"HTTP/1.1", b"HTTP/1.0"), CLOSE],
    "odd names": [http(rows(3)).replace(b"Content-Length", b"cOnTent-lEngth")],
}


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_may_come_in_many_ways(client_of: Open, way: str) -> None:
    def reply(asked: Asked) -> Sequence[Piece]:
        return WAYS[way] if asked.method == "POST" else right(asked)

    with hostile(reply) as server, client_of(server.url, timeout=WIDE) as client:
        for _ in range(2):
            answer = client.knowledge(**ASK)
            assert answer.rows[2].tolist() == list(range(14, 21))
            assert answer.rows.flags.aligned


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nab", CLOSE], "amid an answer"),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\n"], "does not speak"),
        (
            [HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(rows(3), 99) + http(b"")],
            "does not speak",
        ),
        ([HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"], "does not speak"),
        ([b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"], "not speak"),
    ],
)
def test_bad_http_is_an_error(client_of: Open, pieces: Sequence[Piece], words: str) -> None:
    with (
        hostile(lambda _: pieces) as server,
        client_of(server.url, timeout=WIDE) as client,
        pytest.raises(ServiceError, match=words),
    ):
        client.knowledge(**ASK)


def test_a_large_question_and_a_large_answer(client_of: Open) -> None:
    n = 10_000
    with hostile(right) as server, client_of(server.url, timeout=WIDE) as client:
        answer = client.knowledge(u=list(range(n)), i=list(range(n)), c=list(range(n)), v="v1")
    assert answer.rows[-1, -1] == n * 7 - 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@contextmanager
def tls_server(
    certificate: tuple[Path, Path], talk: Callable[[ssl.SSLSocket], None]
) -> Iterator[str]:
    """Yield the URL of a server that talks over TLS, one connection at a time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return  # the end of the test
            try:
                near = context.wrap_socket(plain, server_side=True)
            except OSError:
                plain.close()
                continue
            with near:
                talk(near)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@contextmanager
def behind_tls(server_url: str, certificate: tuple[Path, Path]) -> Iterator[str]:
    """Yield the URL of a proxy that ends TLS in front of a server."""
    host, _, port = server_url.rpartition("/")[2].partition(":")

    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return  # either side hung up

    def talk(near: ssl.SSLSocket) -> None:
        with socket.create_connection((host, int(port))) as far:
            back = threading.Thread(target=pump, args=(far, near))
            back.start()
            pump(near, far)
            back.join()

    with tls_server(certificate, talk) as url:
        yield url


def test_tls_with_a_certificate_of_ones_own(
    client_of: Open, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with (
        hostile(right) as server,
        behind_tls(server.url, certificate) as url,
        client_of(url, timeout=WIDE) as client,
    ):
        for n in (3, 5000):
            answer = client.knowledge(u=7, i=list(range(n)), v="v1")
            assert answer.rows[-1, -1] == n * 7 - 1


def test_a_certificate_that_nobody_vouches_for_is_an_error(
    client_of: Open, certificate: tuple[Path, Path]
) -> None:
    with (
        hostile(right) as server,
        behind_tls(server.url, certificate) as url,
        client_of(url, timeout=WIDE) as client,
        pytest.raises(ServiceError, match=r"certificate verify failed.*SSL_CERT_FILE"),
    ):
        client.knowledge(**ASK)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_a_server_that_sends_without_pause_is_given_up_in_time(
    client_of: Open,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    tls: bool,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    is_given_up = threading.Event()

    def reply(_: Asked) -> Iterator[Piece]:
        yield head
        while not is_given_up.is_set():
            yield b"1\r\nx\r\n" * 3000

    with hostile(reply) as server, ExitStack() as proxies:
        url = proxies.enter_context(behind_tls(server.url, certificate)) if tls else server.url
        with client_of(url, timeout=0.3) as client:
            began = time.monotonic()
            watchdog = threading.Timer(WIDE, is_given_up.set)
            watchdog.start()
            with pytest.raises(DeadlineExceededError, match=r"within 0\.3 s"):
                client.knowledge(**ASK)
            assert time.monotonic() - began < WIDE / 2
            watchdog.cancel()
            is_given_up.set()


def test_heads_without_end_are_an_error(client_of: Open) -> None:
    with (
        hostile(lambda _: [b"HTTP/1.1 100 Continue\r\n\r\n" * 101]) as server,
        client_of(server.url, timeout=WIDE) as client,
        pytest.raises(ServiceError, match="sends more than 100 heads before its answer"),
    ):
        client.knowledge(**ASK)


def surplus_after_the_first(asked: Asked) -> Sequence[Piece]:
    """Answer the second question twice, the second time wrongly and too late to be noticed."""
    if asked.method == "GET":
        return right(asked)
    answer = http(rows(asked.rows))
    surplus = http(rows(asked.rows, knowledge=np.full((asked.rows, 7), 666, np.float32)))
    return [answer, 0.02, surplus] if asked.nth == 2 else [answer]


def test_a_surplus_on_an_idle_connection_is_nobodys_answer(client_of: Open) -> None:
    with hostile(surplus_after_the_first) as server, client_of(server.url, timeout=WIDE) as client:
        for _ in range(3):
            assert client.knowledge(**ASK).rows[0, 1] == 1.0
            time.sleep(0.1)  # also the loop of the async client sleeps, and looks at nothing
    assert server.connections == 2


@contextmanager
def in_one_record(certificate: tuple[Path, Path], surplus: bytes) -> Iterator[str]:
    """Serve over TLS; the end of each answer to a question shares its record with a surplus."""

    def talk(near: ssl.SSLSocket) -> None:
        with suppress(OSError):
            while asked := near.recv(65536):
                if asked.startswith(b"GET"):
                    near.sendall(listing())
                    continue
                answer = http(rows(3))
                near.sendall(answer[:-50])
                near.sendall(answer[-50:] + surplus)

    with tls_server(certificate, talk) as url:
        yield url


def test_a_surplus_that_tls_holds_is_nobodys_answer(
    client_of: Open, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    surplus = http(rows(3, knowledge=np.full((3, 7), 666, np.float32)))
    with (
        in_one_record(certificate, surplus) as url,
        client_of(url, timeout=WIDE) as client,
    ):
        for _ in range(3):
            assert client.knowledge(**ASK).rows[0, 1] == 1.0


def test_over_ipv6(client_of: Open) -> None:
    with hostile(right, "::1") as server, client_of(server.url, timeout=WIDE) as client:
        assert server.url.startswith("http://[::1]:")
        assert len(client.knowledge(**ASK)) == 3


def test_localhost_may_be_two_addresses_of_which_one_listens(client_of: Open) -> None:
    with hostile(right) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        with client_of(url, timeout=WIDE) as client:
            assert len(client.knowledge(**ASK)) == 3


def test_the_listing_may_come_in_chunks(client_of: Open) -> None:
    body = listing().partition(b"\r\n\r\n")[2]
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with (
        hostile(lambda _: [head + chunked(body, 10)]) as server,
        client_of(server.url, timeout=WIDE) as client,
    ):
        assert client.versions()["max_versions"] == 5
