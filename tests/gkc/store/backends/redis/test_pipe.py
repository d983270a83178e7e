"""Calls share one connection, in order; one that breaks or hangs is given up, and made anew."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import redis

from gkc.store.backends.redis.client import Command
from gkc.store.backends.redis.pipe import ReadPipe
from gkc.store.urls import parse_store_url
from tests.redis_server import RedisServer

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def pipe_to(url: str, timeout_ms: int = 2000) -> AsyncIterator[ReadPipe]:
    pipe = ReadPipe(parse_store_url(url), timeout_ms)
    try:
        yield pipe
    finally:
        await pipe.close()


@asynccontextmanager
async def server(talk: Talk) -> AsyncIterator[str]:
    """Listen, and let a function play the Redis server: what no real one would do."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        finally:
            writer.close()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with listening:
        yield f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


def pong(asked: bytes) -> bytes:
    """Return what a server says to the PING at the end of what it was asked."""
    return b"$8\r\n" + asked[-10:]


async def test_calls_of_one_tick_leave_as_one_piece(own_redis: RedisServer) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        async with pipe_to(own_redis.url) as pipe:
            await pipe.run([("SET", "k", "v")])
            before = client.info("stats")["total_reads_processed"]
            calls = [pipe.run([("GET", "k"), ("ECHO", str(n))]) for n in range(50)]
            found = await asyncio.gather(*calls)
            assert found == [[b"v", str(n).encode()] for n in range(50)]
            # One for the calls, one for this INFO.
            assert client.info("stats")["total_reads_processed"] - before <= 2


async def test_an_error_of_one_command_is_its_answer_alone(own_redis: RedisServer) -> None:
    async with pipe_to(own_redis.url) as pipe:
        await pipe.run([("SET", "k", "v")])
        first, second, third = await pipe.run([("GET", "k"), ("HGET", "k", "f"), ("GET", "k")])
        assert (first, third) == (b"v", b"v")
        assert isinstance(second, redis.ResponseError)


async def test_answers_in_any_pieces_reach_their_callers() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.read(1000)
        for byte in b"$3\r\none\r\n*2\r\n$3\r\ntwo\r\n$-1\r\n:3\r\n" + pong(asked):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    async with server(drip) as url, pipe_to(url) as pipe:
        calls = [pipe.run([("A",)]), pipe.run([("B",), ("C",)])]
        assert await asyncio.gather(*calls) == [[b"one"], [[b"two", None], 3]]


async def test_a_server_that_breaks_the_protocol_is_given_up() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with server(babble) as url, pipe_to(url) as pipe:
        with pytest.raises(redis.InvalidResponse, match="Protocol error"):
            await pipe.run([("GET", "k")])


async def test_an_answer_that_nobody_asked_for_is_no_one_s() -> None:
    async def eager(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.read(1000)
        writer.write(b"$3\r\none\r\n" + pong(asked) + b"$3\r\ntwo\r\n")
        await writer.drain()

    async with server(eager) as url, pipe_to(url) as pipe:
        assert await pipe.run([("GET", "k")]) == [b"one"]
        assert await pipe.run([("GET", "k")]) == [b"one"]  # of a new connection


ONE, TWO = b"$3\r\none\r\n", b"$3\r\ntwo\r\n"


@pytest.mark.parametrize(
    "answers",
    [
        [ONE, ONE, TWO, b"PONG"],  # one is told twice
        [TWO, b"PONG", b"$-1\r\n"],  # one is lost
        [ONE, b"PONG", TWO],  # the last one is late
        [ONE, TWO, b"$8\r\n01234567\r\n"],  # another PING's answer
        [ONE, TWO, b"+PONG\r\n"],
        [ONE, b":2\r\n", b"PONG"],  # of other types than such commands have
        [ONE, b"*1\r\n" + TWO, b"PONG"],
    ],
)
async def test_answers_out_of_their_places_are_nobody_s_and_are_not_asked_for_again(
    answers: list[bytes],
) -> None:
    connections = 0

    async def mix_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while asked := await reader.read(1000):
            writer.write(b"".join(pong(asked) if a == b"PONG" else a for a in answers))
            await writer.drain()

    async with server(mix_up) as url, pipe_to(url) as pipe:
        calls = [pipe.run([("GET", "k")]), pipe.run([("GET", "l")])]
        for found in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(found, redis.InvalidResponse)
            assert "not those to what was asked" in str(found)
    assert connections == 1


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (("HMGET", "k", "", "f"), b"*1\r\n$-1\r\n"),
        (("HMGET", "k", "", "f"), b"*2\r\n$-1\r\n:1\r\n"),
        (("HMGET", "k", "f"), b"$-1\r\n"),
        (("HSCAN", "k", 0), b"*1\r\n$1\r\n0\r\n"),
        (("HSCAN", "k", 0), b"*2\r\n$1\r\n0\r\n$1\r\n0\r\n"),
        (("GETRANGE", "k", 0, 1), b":0\r\n"),
        (("EXISTS", "k"), b"$1\r\n1\r\n"),
    ],
)
async def test_an_answer_of_another_type_is_none(command: Command, answer: bytes) -> None:
    async def mistype(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer + pong(await reader.read(1000)))
        await writer.drain()

    async with server(mistype) as url, pipe_to(url) as pipe:
        with pytest.raises(redis.InvalidResponse, match="not those to what was asked"):
            await pipe.run([command])


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (("HMGET", "k", "", "f"), b"*3\r\n"),
        (("HMGET", "k", "", "f"), b"*1000000000\r\n"),
        (("HMGET", "k", "", "f"), b"*2\r\n$-1\r\n%500000000\r\n"),
        (("HMGET", "k", "", "f"), b"*1\r\n" * 3),
        (("HSCAN", "k", 0), b"*2\r\n$1\r\n0\r\n*1000000000\r\n"),
        (("GET", "k"), b"$100000000000\r\n"),
        (("GET", "k"), b"-no\r\n*1\r\n"),
    ],
)
@pytest.mark.parametrize("at_once", [1, 100])
async def test_no_answer_announces_more_values_than_were_asked_for(
    command: Command, answer: bytes, at_once: int
) -> None:
    async def boast(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        for at in range(0, len(answer), at_once):
            writer.write(answer[at : at + at_once])
            await asyncio.sleep(0)
        await reader.read()  # it says nothing more

    async with server(boast) as url, pipe_to(url) as pipe:
        with pytest.raises(redis.InvalidResponse, match="not those to what was asked"):
            await pipe.run([command])


@pytest.mark.parametrize("kind", [b"+", b"-ERR ", b"$"])
async def test_no_line_is_read_without_end(kind: bytes) -> None:
    async def ramble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(kind + b"0" * 100_000)
        await reader.read()  # it says nothing more

    async with server(ramble) as url, pipe_to(url) as pipe:
        with pytest.raises(redis.InvalidResponse, match="not those to what was asked"):
            await pipe.run([("GET", "k")])


@pytest.mark.parametrize("at_once", [1, 100])
async def test_a_value_may_look_like_the_head_of_an_array(at_once: int) -> None:
    value = b"\r\n*1000000000\r\n"
    answer = b"*3\r\n$-1\r\n$0\r\n\r\n$%d\r\n%b\r\n" % (len(value), value)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while asked := await reader.read(1000):
            told = answer + pong(asked)
            for at in range(0, len(told), at_once):
                writer.write(told[at : at + at_once])
                await asyncio.sleep(0)

    async with server(drip) as url, pipe_to(url) as pipe:
        for _ in range(2):
            assert await pipe.run([("HMGET", "k", "a", "b", "c")]) == [[None, b"", value]]


async def test_what_a_server_says_before_it_hangs_up_is_told() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"-DENIED Redis is running in protected mode\r\n")
        await writer.drain()

    async with server(refuse) as url, pipe_to(url) as pipe:
        with pytest.raises(redis.ResponseError, match="protected mode"):
            await pipe.run([("GET", "k")])


async def test_a_right_to_ping_that_is_lacking_is_told(own_redis: RedisServer) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.execute_command("ACL", "SETUSER", "mute", "on", "nopass", "~*", "-@all", "+get")
    async with pipe_to(own_redis.url.replace("//", "//mute:any@")) as pipe:
        with pytest.raises(redis.ResponseError, match="'ping' command"):
            await pipe.run([("GET", "k")])


async def test_a_server_that_is_silent_ends_the_connection_and_its_calls_only() -> None:
    connections = 0

    async def hang_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        hangs = connections == 1
        while asked := await reader.read(1000):
            if not hangs:
                writer.write(b"$4\r\nhere\r\n" + pong(asked))
                await writer.drain()

    async with server(hang_once) as url, pipe_to(url, timeout_ms=50) as pipe:
        calls = [pipe.run([("GET", "k")]), pipe.run([("GET", "l")])]
        for found in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(found, redis.TimeoutError)
            assert str(found) == "no answer within 50 ms"
        assert await pipe.run([("GET", "k")]) == [b"here"]
    assert connections == 2


async def test_a_server_that_reads_nothing_is_silent() -> None:
    async def read_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(5)

    async with server(read_nothing) as url, pipe_to(url, timeout_ms=50) as pipe:
        with pytest.raises(redis.TimeoutError, match="no answer within 50 ms"):
            await pipe.run([("ECHO", bytes(16 << 20))])


async def test_an_answer_may_take_as_long_as_it_likes_while_it_comes() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.read(1000)
        for byte in b"$3\r\none\r\n" + pong(asked):
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)

    async with server(trickle) as url, pipe_to(url, timeout_ms=200) as pipe:
        assert await pipe.run([("GET", "k")]) == [b"one"]


async def test_what_came_while_this_process_was_busy_is_no_silence(own_redis: RedisServer) -> None:
    async with pipe_to(own_redis.url, timeout_ms=50) as pipe:
        await pipe.run([("SET", "k", "v")])
        call = asyncio.create_task(pipe.run([("GET", "k")]))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(time.sleep, 0.2)
        assert await call == [b"v"]


async def test_who_waits_no_longer_leaves_the_others_their_answers() -> None:
    may_answer, connections = asyncio.Event(), 0

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        asked = await reader.read(1000)
        await may_answer.wait()
        writer.write(ONE + TWO + pong(asked))
        writer.write(TWO + pong(await reader.read(1000)))

    async with server(wait) as url, pipe_to(url) as pipe:
        first = asyncio.create_task(pipe.run([("GET", "k")]))
        second = asyncio.create_task(pipe.run([("GET", "l")]))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await first
        may_answer.set()
        assert await second == [b"two"]
        assert await pipe.run([("GET", "l")]) == [b"two"]
    assert connections == 1


@pytest.mark.parametrize(
    ("credentials", "answer"), [(":no@", b"-ERR invalid password\r\n"), ("", b"")]
)
async def test_a_server_that_lets_nobody_in_is_tried_less_and_less_often(
    credentials: str, answer: bytes
) -> None:
    connections, lets_in = 0, False

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        asked = await reader.read(1000)
        if lets_in and credentials:
            writer.write(b"+OK\r\n")
            asked = await reader.read(1000)
        writer.write(ONE + pong(asked) if lets_in else answer)
        await writer.drain()

    async with server(refuse) as url, pipe_to(url.replace("//", f"//{credentials}")) as pipe:
        for _ in range(100):
            with pytest.raises(redis.ConnectionError):
                await pipe.run([("GET", "k")])
        assert 2 <= connections < 20
        lets_in = True
        await asyncio.sleep(0.5)  # the longest pause
        assert await pipe.run([("GET", "k")]) == [b"one"]


async def test_callers_during_connecting_share_the_connection(own_redis: RedisServer) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        before = client.info("stats")["total_connections_received"]
        async with pipe_to(own_redis.url) as pipe:
            await asyncio.gather(*(pipe.run([("PING",)]) for _ in range(20)))
            assert client.info("stats")["total_connections_received"] == before + 1
