"""Store URLs: what they mean, what is shown of them, and which are refused."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkc.cli.options import Store
from gkc.client.options import STORES
from gkc.errors import CommandError, StoreUrlError
from gkc.store import parse_store_url, require_store
from gkc.store.backends import _BACKENDS
from gkc.store.urls import require_namespace

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:/data/gkc", Path("/data/gkc")),
        ("file:///data/gkc", Path("/data/gkc")),
        ("file:./gkc-data", Path.cwd() / "gkc-data"),
        ("file:gkc-data", Path.cwd() / "gkc-data"),
        ("file:~/gkc", Path.home() / "gkc"),
        ("file:/data/a@b?c#d=e", Path("/data/a@b?c#d=e")),
        ("file:/data/2026-11-30T08:00@b", Path("/data/2026-11-30T08:00@b")),
        ("file:with space:and colon", Path.cwd() / "with space:and colon"),
    ],
)
def test_a_file_store_is_shown_by_its_absolute_path(url: str, path: Path) -> None:
    parsed = parse_store_url(url)
    assert (parsed.scheme, parsed.path, parsed.shown) == ("file", path, f"file:{path}")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost", "redis://localhost"),
        ("redis://localhost:6379/3", "redis://localhost:6379/3"),
        ("redis://user:secret@host:1/0", "redis://host:1/0"),
        ("rediss://:secret@host:1/0?ssl_cert_reqs=none", "rediss://host:1/0"),
        ("rediss://:p%40ss@host:1", "rediss://host:1"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("unix://user:secret@/run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
    ],
)
def test_a_redis_store_is_shown_without_its_secrets(url: str, shown: str) -> None:
    parsed = parse_store_url(url)
    assert (parsed.url, parsed.shown) == (url, shown)
    assert parsed.scheme == url.partition(":")[0]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "has no scheme"),
        ("gkc-data", "has no scheme"),
        ("file:", "names no directory"),
        ("file://host/path", "names a host"),
        ("http://host", "unknown scheme 'http'"),
        ("redis+cluster://h1:1,h2:2", "unknown scheme 'redis+cluster'"),
        ("redis://", "names no host"),
        ("redis:///0", "names no host"),
        ("rediss://:secret@", "names no host"),
        ("unix://", "names no socket"),
        ("redis:host", "has no scheme"),
        ("redis/://:secret@host", "has no scheme"),
        ("secret@host:1/0", "has no scheme"),
        ("user:secret@host:1/0", "has no scheme"),
        ("redis://[::1", "names no valid host and port"),
        ("redis://user:secret/@host:1/0", "percent-encode"),
        ("127.0.0.1:6379/0?password=secret", "has no scheme"),
        ("redis:/127.0.0.1:6379/0?password=secret", "has no scheme"),
        ("redis//127.0.0.1?password=secret", "has no scheme"),
        ("redis:secret#x", "has no scheme"),
        ("redis:secret", "has no scheme"),
        (":secret", "has no scheme"),
        ("//:secret", "has no scheme"),
        ("host secret", "has no scheme"),
        (" redis://:secret@host", "has no scheme"),
        ('"redis://:secret@host"', "has no scheme"),
        ("GKC_STORE_URL=redis://:secret@host", "has no scheme"),
        ("-h host -a secret", "has no scheme"),
        ("secret://x@host", "has an unknown scheme"),
        ("REDIS://:secret@host", "has an unknown scheme"),
        ("valkey://host?password=secret", "has an unknown scheme"),
        ("file://user:secret@host/x", "another URL behind file:"),
        ("file://secret/x", "names a host"),
        ("file:redis://:secret@127.0.0.1:6379/0", "another URL behind file:"),
        ("file:///redis://:secret@127.0.0.1:6379/0", "another URL behind file:"),
        ("file://redis://:secret@127.0.0.1:6379/0", "another URL behind file:"),
        ("file:./REDISS:/:secret@host", "another URL behind file:"),
        ("file:/data/mysql://u:secret@host", "another URL behind file:"),
        ("file:file:secret", "another URL behind file:"),
        ("file::secret@host:6379/0", "another URL behind file:"),
        ("file:user:secret@host:6379/0", "another URL behind file:"),
        ("file:host:6379/0?password=secret", "another URL behind file:"),
        ("file:host/0?db=0&PWD=secret", "another URL behind file:"),
        ("file:~no-such-secret/x", "the home of a user who has none"),
    ],
)
def test_what_names_no_store_is_refused(url: str, reason: str) -> None:
    with pytest.raises(StoreUrlError) as caught:
        parse_store_url(url)
    assert reason in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", _BACKENDS)
def test_a_url_of_ours_behind_file_is_refused(scheme: str) -> None:
    with pytest.raises(StoreUrlError, match="has another URL behind file:"):
        parse_store_url(f"file:{scheme}:secret")


def test_a_parsed_url_does_not_repeat_its_secrets() -> None:
    assert "secret" not in repr(parse_store_url("redis://:secret@host"))


@given(st.from_regex(r"[a-z0-9]{4,12}", fullmatch=True))
def test_no_error_repeats_a_password(password: str) -> None:
    password = f"P{password}P"
    with pytest.raises(StoreUrlError) as caught:
        parse_store_url(f"mysql://user:{password}@host/0?password={password}")
    assert password not in str(caught.value)


@pytest.mark.parametrize("namespace", ["default", "a.b-c_D9", "x" * 64])
def test_namespaces(namespace: str) -> None:
    require_namespace("file:x", namespace)
    with pytest.raises(StoreUrlError, match="namespace"):
        require_namespace("file:x", namespace + "/" + "y" * 64)


def test_people_are_told_every_scheme() -> None:
    (setting,) = (
        line for line in OPERATIONS.read_text().splitlines() if line.startswith("| `GKC_STORE_URL`")
    )
    _, option = get_args(Store)
    for scheme in _BACKENDS:
        for told in (setting, option.help, StoreUrlError("x", "is none").remedy):
            assert f"{scheme}:" in told
        assert any(start.startswith(f"{scheme}:") for start in STORES)


def test_a_directory_that_is_to_be_read_must_be_there(tmp_path: Path) -> None:
    require_store(f"file:{tmp_path}")
    require_store("redis://127.0.0.1:1/0")  # whether a server runs there, its reader tells
    with pytest.raises(CommandError, match=f"^no store at {tmp_path}/nope; name the right one by"):
        require_store(f"file:{tmp_path}/nope")
