"""``gkc serve`` as real processes: workers, outages, losses, stopping."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.commands import (
    BIN,
    Place,
    command,
    free_port,
    http_once,
    lives,
    service,
    start,
    wait_for,
)
from tests.gkc.world import make_world
from tests.redis_server import RedisServer

QUESTION = {"u": 7, "i": [11, 12, 13], "v": "v1"}
ANSWERED = 'gkc_requests_total{code="200",route="/knowledge"}'


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(f"file:{tmp_path / 'store'}", "default")


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{holds} does not hold after {seconds} s"
        time.sleep(0.02)


def answer(url: str, body: Any = None) -> httpx.Response:
    return http_once.post(f"{url}/knowledge", json=body or QUESTION, timeout=10)


def code(url: str, body: Any = None) -> int:
    return answer(url, body).status_code


def generation(url: str) -> str | None:
    response = answer(url)
    return response.json()["versions"]["v1"] if response.status_code == 200 else None


def samples(url: str) -> dict[str, float]:
    """Return every sample of /metrics by its name and labels."""
    lines = http_once.get(f"{url}/metrics", timeout=10).text.splitlines()
    return {x.rpartition(" ")[0]: float(x.rpartition(" ")[2]) for x in lines if x[0] != "#"}


@contextmanager
def serving(place: Place, *args: object) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run ``gkc serve``; yield its URL and the process, which the test stops itself."""
    port = free_port()
    process = start("gkc", "serve", "--port", port, *args, place=place)
    try:
        wait_for(f"http://127.0.0.1:{port}/readyz", process)
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_it_says_where_it_serves_what(place: Place, tmp_path: Path) -> None:
    make_world().publish(place.url)
    with subprocess.Popen(
        [str(BIN / "gkc"), "serve", "--store", place.url, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        pattern = r"serving (http://127\.0\.0\.1:\d+) from (\S+) \(namespace default\)\n"
        found = re.fullmatch(pattern, line)
        assert found, line
        assert found[2] == f"file:{tmp_path / 'store'}"
        wait_for(f"{found[1]}/readyz", process)
        assert code(found[1]) == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        assert process.stdout.read() == ""


@contextmanager
def starting(url: str, *args: object) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Begin ``gkc serve``; yield its port and the process, whose standard output is a pipe."""
    port = free_port()
    command = [BIN / "gkc", "serve", "--store", url, "--port", port, *args]
    with subprocess.Popen(
        [str(a) for a in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield port, process
        finally:
            process.kill()


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("is_said", [False, True], ids=["starting", "serving"])
def test_a_signal_ends_it_with_a_store_that_is_away(number: signal.Signals, is_said: bool) -> None:
    with starting(f"redis://127.0.0.1:{free_port()}/0", "--workers", 2) as (port, process):
        assert process.stdout is not None
        if is_said:
            assert process.stdout.readline().startswith(f"serving http://127.0.0.1:{port} from ")
        else:
            until(lambda: accepts(port))  # by then it builds what it serves
        children = _workers(process.pid)
        process.send_signal(number)
        assert process.wait(timeout=30) == 0
        assert not any(map(lives, children))
        assert process.stdout.read() == ""
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("pause", [0.0, 0.05, 0.15])
def test_ctrl_c_at_a_terminal_reaches_every_process_and_tells_no_traceback(
    place: Place, pause: float
) -> None:
    make_world().publish(place.url)
    process = subprocess.Popen(
        [str(BIN / "gkc"), "serve", "--store", place.url, "--port", "0", "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        until(lambda: bool(_workers(process.pid)))  # they import what they serve with
        time.sleep(pause)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "Traceback" not in stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_it_says_so_once_it_answers(place: Place, workers: int) -> None:
    with starting(place.url, "--workers", workers) as (port, process):
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(20):
            assert http_once.get(f"http://127.0.0.1:{port}/livez", timeout=5).status_code == 200
        assert len(_workers(process.pid)) == workers
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


@pytest.mark.parametrize("kind", ["missing", "a file", "of a former run"])
def test_metrics_need_nothing_of_the_environment(place: Place, tmp_path: Path, kind: str) -> None:
    make_world().publish(place.url)
    directory = tmp_path / "prometheus"
    env = {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    if kind == "a file":
        directory.touch()
    if kind == "of a former run":
        directory.mkdir()
        count = "import prometheus_client as p; p.Counter('gkc_former', '.').inc()"
        subprocess.run([sys.executable, "-c", count], env={**os.environ, **env}, check=True)
        assert list(directory.iterdir())
    with service(place, env=env) as url:
        assert [code(url) for _ in range(10)] == [200] * 10
        found = samples(url)
        assert found[ANSWERED] >= 10
        assert not [name for name in found if "former" in name]


def test_a_port_in_use_is_one_clear_line(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = command("gkc", "serve", "--port", port, place=place)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert str(port) in line
    assert "in use" in line


def test_a_publication_is_soon_served_by_every_worker(place: Place) -> None:
    old = make_world(seed=1).publish(place.url)
    with service(place, "--workers", 2) as url:
        assert [generation(url) for _ in range(10)] == [old.generation] * 10
        new = make_world(seed=2).publish(place.url)
        until(lambda: all(generation(url) == new.generation for _ in range(10)))


def test_metrics_of_two_workers_are_summed(place: Place, tmp_path: Path) -> None:
    make_world().publish(place.url)
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    with service(place, "--workers", 2, env={"TMPDIR": str(scratch)}) as url:
        assert list(scratch.glob("gkc-metrics-*")), "the workers share a private directory"
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: answer(url), range(60)))
        assert {a.status_code for a in answers} == {200}, "ready means all workers"
        answered = len({a.headers["x-request-id"] for a in answers})
        assert answered == len(answers), "both were forked from one process, which made no ids"
        expected = {
            ANSWERED: answered,
            'gkc_request_rows_sum{route="/knowledge"}': 3 * answered,
            'gkc_parts_total{part="user",status="found",version="v1"}': 3 * answered,
            'gkc_request_duration_seconds_count{route="/knowledge"}': 60,
            "gkc_inflight_requests": 1,  # the scrape itself
        }
        # Each worker adds in batches, one figure after the other: a scrape may come in between.
        until(lambda: expected.items() <= samples(url).items())
        found = samples(url)
        assert sum(name.startswith("gkc_version_info") for name in found) == 1
        assert sum(name.startswith("gkc_build_info") for name in found) == 1
    until(lambda: not list(scratch.glob("gkc-metrics-*")))


def test_workers_say_so_when_the_folder_of_their_metrics_is_gone(
    place: Place, tmp_path: Path
) -> None:
    make_world().publish(place.url)
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (tmp_path / "log").open("w+") as told:
        process = start(
            *("gkc", "serve", "--port", port),
            place=place,
            env={"TMPDIR": str(scratch)},
            stderr=told.fileno(),
        )
        try:
            wait_for(f"{url}/readyz", process)
            for folder in scratch.glob("gkc-metrics-*"):
                shutil.rmtree(folder)
            assert http_once.get(f"{url}/metrics").status_code == 503
            process.send_signal(signal.SIGHUP)
            until(lambda: "worker_failed_to_start" in Path(told.name).read_text("utf-8"))
            assert code(url) == 200
        finally:
            process.terminate()
            assert process.wait(timeout=30) == 0
        log = Path(told.name).read_text("utf-8")
    assert "Traceback" not in log
    assert "start gkc serve again" in log


def test_the_next_start_removes_what_a_killed_service_left(place: Place, tmp_path: Path) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    env = {"TMPDIR": str(scratch)}
    with service(place, "--workers", 2, env=env, wait=False) as living:
        (kept,) = scratch.iterdir()
        port = free_port()
        command = ("gkc", "serve", "--workers", 2, "--port", port)
        process = start(*command, place=place, env=env, process_group=0)
        wait_for(f"http://127.0.0.1:{port}/livez", process)
        (left,) = set(scratch.iterdir()) - {kept}
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
        assert left.exists()
        with service(place, "--workers", 2, env=env, wait=False):
            assert not left.exists()
            assert len(list(scratch.iterdir())) == 2
            assert samples(living)["gkc_inflight_requests"] == 1
    assert not list(scratch.iterdir())


def test_what_a_killed_worker_counted_stays(place: Place) -> None:
    make_world().publish(place.url)
    with serving(place) as (url, process):
        assert [code(url) for _ in range(10)] == [200] * 10
        until(lambda: samples(url).get(ANSWERED) == 10)  # they are added in batches
        (worker,) = _workers(process.pid)
        os.kill(worker, signal.SIGKILL)
        until(lambda: _answers(url))
        found = samples(url)
        assert found[ANSWERED] >= 10
        assert found["gkc_inflight_requests"] == 1
        process.terminate()
        assert process.wait(timeout=30) == 0


def _workers(pid: int) -> set[int]:
    """Return the processes that answer requests, as the kernel lists them."""
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def _answers(url: str) -> bool:
    try:
        return code(url) == 200
    except httpx.TransportError:  # a connection that the killed worker had accepted
        return False


@pytest.mark.parametrize("sent", [0, 10, 110], ids=["connected", "head begun", "body begun"])
def test_requests_in_flight_are_answered_when_it_stops(place: Place, sent: int) -> None:
    make_world().publish(place.url)
    body = b'{"u": 7, "i": [11, 12, 13], "v": "v1"}'
    head = (
        "POST /knowledge HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    with serving(place) as (url, process):
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            question = head.encode() + body
            connection.sendall(question[:sent])
            time.sleep(0.3)
            process.terminate()
            time.sleep(0.3)
            assert process.poll() is None, "it waits for the request"
            connection.sendall(question[sent:])
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.rstrip().endswith(b"}")
        assert process.wait(timeout=30) == 0


def test_being_told_to_stop_twice_is_as_good_as_once(place: Place) -> None:
    make_world().publish(place.url)
    process = subprocess.Popen(
        [str(BIN / "gkc"), "serve", "--store", place.url, "--port", "0", "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        found = re.search(r":(\d+) from", process.stdout.readline())
        assert found
        with socket.create_connection(("127.0.0.1", int(found[1])), timeout=10) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            for _ in range(3):
                os.killpg(process.pid, signal.SIGINT)
                time.sleep(0.015)
            _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "application/json"}, 413),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/json", "accept": "text/html"}, 406),
    ],
)
def test_a_refusal_reaches_callers_who_send_their_body_first(
    place: Place, headers: dict[str, str], status: int
) -> None:
    make_world().publish(place.url)
    with serving(place) as (url, _):
        # Unlike httpx, this client gives up if the connection closes before all is sent.
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
        with closing(connection):
            for _ in range(3):
                connection.request("POST", "/knowledge", b" " * 20_000_000, headers)
                response = connection.getresponse()
                assert response.status == status
                assert json.loads(response.read())["status"] == status
        assert code(url) == 200


def test_wrong_settings_are_told() -> None:
    assert command("gkc", "serve", "--workers", 0).returncode == 2
    result = command("gkc", "serve", env={"GKC_MAX_ROWS": "many"})
    assert result.returncode == 2
    assert "GKC_MAX_ROWS" in result.stderr
    result = command("gkc", "serve", "--store", "http://x")
    assert result.returncode == 1
    assert "http" in result.stderr


def test_a_misspelt_setting_is_warned_about(place: Place) -> None:
    make_world().publish(place.url)
    result = command("gkc", "versions", place=place, env={"GKC_STORE_URI": "x"})
    assert result.returncode == 0
    assert "GKC_STORE_URI" in result.stderr
    assert "GKC_STORE_URL" in result.stderr


# ---- a Redis that goes away or loses things


@pytest.fixture
def redis_place(own_redis: RedisServer, tmp_path: Path) -> Place:
    return Place(own_redis.url, "default")


def mirror(tmp_path: Path) -> dict[str, str]:
    return {"GKC_MIRROR_DIR": str(tmp_path / "mirror"), "GKC_USER_CACHE_MB": "0"}


@pytest.mark.redis
def test_an_outage_is_503_and_passes(
    redis_place: Place, own_redis: RedisServer, tmp_path: Path
) -> None:
    make_world().publish(redis_place.url)
    with service(redis_place, env=mirror(tmp_path)) as url:
        assert code(url) == 200
        own_redis.stop()
        response = http_once.post(f"{url}/knowledge", json=QUESTION, timeout=10)
        assert response.status_code == 503
        assert response.headers["retry-after"]
        assert http_once.get(f"{url}/livez").status_code == 200
        assert samples(url)['gkc_store_errors_total{operation="fetch_users"}'] >= 1
        own_redis.start()  # empty, as after a loss of everything
        until(lambda: code(url) == 503 and "vanished" in detail(url))
        again = make_world(seed=3).publish(redis_place.url)
        until(lambda: generation(url) == again.generation)


def detail(url: str) -> str:
    return str(http_once.post(f"{url}/knowledge", json=QUESTION, timeout=10).json().get("detail"))


@pytest.mark.redis
def test_a_lost_bucket_is_503_not_zeros(redis_place: Place, tmp_path: Path) -> None:
    world = make_world().publish(redis_place.url)
    with service(redis_place, env=mirror(tmp_path)) as url:
        assert code(url) == 200
        with redis.Redis.from_url(redis_place.url) as client:
            keys = [k for k in client.keys("*") if world.generation.encode() in k]
            lost = [k for k in keys if client.type(k) == b"hash"]
            assert lost
            client.delete(*lost)
        response = http_once.post(f"{url}/knowledge", json=QUESTION, timeout=10)
        assert response.status_code == 503
        assert world.generation in response.json()["detail"]
        assert samples(url)['gkc_store_errors_total{operation="fetch_users"}'] >= 1
        again = make_world(seed=4).publish(redis_place.url)
        until(lambda: generation(url) == again.generation)


@pytest.mark.redis
def test_requests_survive_re_exports_that_delete_what_they_read(
    redis_place: Place, tmp_path: Path
) -> None:
    seen: list[tuple[int, str | None, list[float]]] = []
    worlds = [make_world(value=0.0).publish(redis_place.url)]
    stop = threading.Event()

    def keep_asking(url: str) -> None:
        with httpx.Client(timeout=10) as client:
            while not stop.is_set():
                response = client.post(f"{url}/knowledge", json=QUESTION)
                body = response.json()
                row = body["knowledge"][0] if response.status_code == 200 else []
                seen.append((response.status_code, body.get("versions", {}).get("v1"), row))

    patient = {"GKC_STORE_TIMEOUT_MS": "10000"}  # as long as a busy machine needs to load one
    with service(redis_place, env=mirror(tmp_path) | patient) as url:
        asking = threading.Thread(target=keep_asking, args=(url,))
        asking.start()
        for number in range(1, 9):
            world = make_world(value=float(number))
            worlds.append(world.publish(redis_place.url, keep_previous=0))
            time.sleep(0.1)
        stop.set()
        asking.join()
    values = {world.generation: float(k) for k, world in enumerate(worlds)}
    assert {status for status, _, _ in seen} == {200}
    for _, named, row in seen:
        assert named is not None
        assert row[:4] == [values[named]] * 4
    assert len({named for _, named, _ in seen}) > 2


def test_the_module_runs_the_same_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "gkc", "--help"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0
    assert "serve" in result.stdout
