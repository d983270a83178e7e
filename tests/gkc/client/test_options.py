"""What a client may be made of: wrong URLs and options are refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gkc import AsyncClient, Client
from gkc.errors import ClientUsageError


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("http://u:secret@h:1", {}, "password, which would be sent to nobody; leave it out"),
        ("http://h:1?a=b", {}, "query"),
        ("http://h:1#a", {}, "fragment"),
        ("http://h:99999", {}, "out of range"),
        ("http://h:0", {}, "port is 0"),
        ("http://:80", {}, "no host"),
        ("http://[::1", {}, "Invalid IPv6"),
        ("http://h: 1", {}, "characters"),
        ("ftp://h", {}, "http://"),
        ("", {}, "http://"),
        ([], {}, "no address"),
        (["http://h:1", "http://h:1/"], {}, "twice"),
        ("http://h:1", {"timeout": 0}, "timeout=0"),
        ("http://h:1", {"timeout": float("nan")}, "timeout=nan"),
        ("http://h:1", {"timeout": 10**400}, "timeout=1000"),
        ("http://h:1", {"retries": -1}, "retries=-1"),
        ("http://h:1", {"hedge_after": -0.5}, "hedge_after=-0.5"),
        ("http://h:1", {"max_rows": 0}, "max_rows=0"),
        ("http://h:1", {"allow_stale": -1}, "allow_stale=-1"),
        ("http://h:1", {"allow_stale": float("inf")}, "allow_stale=inf"),
        ("http://h:1", {"allow_stale": None}, "allow_stale=None must be a number"),
        (None, {}, "a str, not a NoneType"),
        (Path("gkc-data"), {}, "file:, redis://"),
        (["http://h:1", 5], {}, "a str, not a int"),
        (b"http://h:1", {}, "a str, not a int"),
        ("http://h:1", {"timeout": "1"}, "timeout='1' must be a number"),
        ("http://h:1", {"timeout": None}, "timeout=None must be a number"),
        ("http://h:1", {"retries": 1.5}, "retries=1.5 must be a count"),
        ("http://h:1", {"hedge_after": "1"}, "hedge_after='1' must be a number"),
        ("http://h:1", {"max_rows": "5"}, "max_rows='5' must be a count"),
        ("http://h:1", {"on_request": 5}, "on_request=5 must be a function"),
        ("http://h:1", {"lock": ""}, "lock='' must be the path of a file that `gkc lock` wrote"),
        ("http://h:1", {"lock": 5}, "lock=5 must be the path"),
        ("http://h:1", {"namespace": "a"}, "namespace= is for a store in this process"),
        ("file:x", {"on_request": print}, "on_request= is for a service"),
        ("file:x", {"api_key": "abc"}, "api_key= is for a service"),
        (
            "http://h:1",
            {"api_key": "secret\r\nx: y"},
            "api_key=, or GKC_API_KEY of a command, must be one that `gkc key new`",
        ),
        (
            "http://h:1",
            {"api_key": b"secret"},
            "api_key=, or GKC_API_KEY of a command, must be one",
        ),
        ("http://h:1", {"api_key": ""}, "api_key=, or GKC_API_KEY of a command, must be one"),
    ],
)
def test_a_wrong_url_or_option_is_refused(
    kind: type, url: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ClientUsageError) as caught:
        kind(url, **options)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
