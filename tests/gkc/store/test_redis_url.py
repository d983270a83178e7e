"""Redis URLs: what is taken, what is refused, and that nothing of a refused one is shown."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkc.errors import StoreUrlError
from gkc.store.redis_url import parse_redis_url

HERE = {"host": "h", "port": 6379}


@pytest.mark.parametrize(
    ("url", "arguments"),
    [
        ("redis://h", HERE),
        ("redis://h/", HERE),
        ("redis://h?", HERE),
        ("redis://h:1", {"host": "h", "port": 1}),
        ("redis://h:65535/15", {"host": "h", "port": 65535, "db": 15}),
        ("redis://h?db=3", HERE | {"db": 3}),
        ("redis://redis_1.example.org./0", {"host": "redis_1.example.org.", "port": 6379, "db": 0}),
        ("redis://[::1]:7/0", {"host": "::1", "port": 7, "db": 0}),
        ("redis://[fe80::1%25eth0]", {"host": "fe80::1%eth0", "port": 6379}),
        ("redis://user@h", HERE | {"username": "user"}),
        ("redis://user:@h", HERE | {"username": "user"}),
        ("redis://:pa:ss@h", HERE | {"password": "pa:ss"}),
        ("redis://:@h", HERE),
        ("redis://u%40x:p%23%2F%3F%40%25@h", HERE | {"username": "u@x", "password": "p#/?@%"}),
        ("redis://:a+b%2Bc%20d@h", HERE | {"password": "a+b+c d"}),
        ("redis://:p%C3%A4ss@h", HERE | {"password": "päss"}),
        ("rediss://h?ssl_cert_reqs=none", HERE | {"ssl_cert_reqs": "none"}),
        ("rediss://h?ssl_check_hostname=False&db=1", HERE | {"ssl_check_hostname": False, "db": 1}),
        ("unix:///run/redis.sock", {"path": "/run/redis.sock"}),
        ("unix:///run/a@b%20c.sock?db=2", {"path": "/run/a@b c.sock", "db": 2}),
        ("unix://u:p@/run/s", {"username": "u", "password": "p", "path": "/run/s"}),
    ],
)
def test_what_is_taken(url: str, arguments: dict[str, Any]) -> None:
    assert parse_redis_url(url)[1] == arguments


def test_files_of_tls(tmp_path: Path) -> None:
    file = tmp_path / "a+b &c.pem"
    file.touch()
    encoded = quote(str(file))
    url = f"rediss://h?ssl_ca_certs={encoded}&ssl_certfile={encoded}&ssl_keyfile={encoded}"
    assert parse_redis_url(f"{url}&ssl_password=p%23")[1] == HERE | {
        "ssl_ca_certs": str(file),
        "ssl_certfile": str(file),
        "ssl_keyfile": str(file),
        "ssl_password": "p#",
    }


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:secret@h:1/3", "redis://h:1/3"),
        ("redis://h:1?db=3", "redis://h:1?db=3"),
        ("rediss://u@h/0?ssl_cert_reqs=none", "rediss://h/0"),
        ("unix://:secret@/run/s?db=2", "unix:///run/s?db=2"),
    ],
)
def test_a_store_is_shown_with_its_database_and_without_secrets(url: str, shown: str) -> None:
    assert parse_redis_url(url)[0] == shown


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        # a database
        ("redis://h:1/SECRET", "a database that is no number"),
        ("redis://h:1/1/2", "a database that is no number"),
        ("redis://h:1/0/", "a database that is no number"),
        ("redis://h:1/-1", "a database that is no number"),
        ("redis://h:1/+1", "a database that is no number"),
        ("redis://h:1/\N{ARABIC-INDIC DIGIT ONE}", "a database that is no number"),
        ("redis://h:1/12345678901", "a database that is no number"),
        ("redis://h:1/%31", "a database that is no number"),
        ("redis://h:1/0?db=0", "the database twice"),
        ("redis://h?db=SECRET", "a wrong db; it must be a number"),
        ("redis://h?db=", "a wrong db"),
        ("redis://h?db", "a wrong db"),
        # parameters
        ("redis://h?SECRET=1", "an unknown parameter"),
        ("redis://h?&db=1", "an unknown parameter"),
        ("redis://h?db=1&db=1", "the parameter db twice"),
        ("redis://h?DB=1", "did you mean db?"),
        ("redis://h?socket_timeout=3", "an unknown parameter"),
        ("redis://h?decode_responses=yes", "an unknown parameter"),
        ("redis://h?protocol=3", "an unknown parameter"),
        ("redis://h?password=SECRET", "among its parameters"),
        ("redis://h?passwd=SECRET", "among its parameters"),
        ("redis://h?pass=SECRET", "among its parameters"),
        ("redis://h?pwd=SECRET", "among its parameters"),
        ("redis://h?AUTH=SECRET", "among its parameters"),
        ("redis://h?token=SECRET", "among its parameters"),
        ("rediss://h?ssl_cert_req=none", "did you mean ssl_cert_reqs?"),
        ("rediss://h?ssl_cert_reqs=SECRET", "it must be required or none"),
        ("rediss://h?ssl_check_hostname=SECRET", "it must be true or false"),
        ("rediss://h?ssl_ca_certs=/SECRET.pem", "the path of a file that exists"),
        ("rediss://h?ssl_ca_certs=", "the path of a file that exists"),
        ("rediss://h?ssl_certfile=pyproject.toml&ssl_password=", "a text that is not empty"),
        ("rediss://h?ssl_keyfile=pyproject.toml", "ssl_keyfile, but no ssl_certfile"),
        ("rediss://h?ssl_password=SECRET", "ssl_password, but no ssl_certfile"),
        ("redis://h?ssl=true", "use rediss:// for TLS"),
        ("redis://h?ssl_cert_reqs=none", "use rediss:// for TLS"),
        ("redis://h?TLS=SECRET", "use rediss:// for TLS"),
        ("unix:///s?ssl_ca_certs=/x", "leave them out"),
        # a user name or password that is not percent-encoded
        ("redis://:SECRET#x@h:1/0", "# is %23"),
        ("redis://:5#SECRET@h:1/0", "# is %23"),
        ("redis://:SECRET/x@h:1/0", "/ is %2F"),
        ("redis://:5/SECRET@h:1/0", "/ is %2F"),
        ("redis://:5?SECRET@h:1/0", "? is %3F"),
        ("redis://:5?db=1&SECRET@h:1/0", "? is %3F"),
        ("redis://:SECRET@x@h:1/0", "@ is %40"),
        ("redis://SECRET@u:p@h:1/0", "@ is %40"),
        ("redis://:SECRET%@h:1/0", "% is %25"),
        ("redis://:SECRET%zz@h:1/0", "% is %25"),
        ("redis://:SECRET%FF@h:1/0", "that encodes nothing"),
        ("redis://:SECRET[@h:1/0", "percent-encode"),
        ("redis://:SECRETä@h:1/0", "percent-encode"),
        ("redis://h/0#SECRET", "percent-encode"),
        ("unix://u:SECRET#@/run/s", "percent-encode"),
        ("unix://u:SECRET/x@/run/s", "percent-encode"),
        # a host and a port
        ("redis://", "names no host"),
        ("redis:///0", "names no host"),
        ("redis://:6379", "names no host"),
        ("redis://:SECRET@", "names no host"),
        ("redis://u:SECRET@:1", "names no host"),
        ("redis://u:SECRET", "names no valid port"),
        ("redis://h:", "names no valid port"),
        ("redis://h:0", "names no valid port"),
        ("redis://h:65536", "names no valid port"),
        ("redis://h:-1", "names no valid port"),
        ("redis://h1:1,h2:2/0", "names no valid port"),
        ("redis://h1,h2:2/0", "names no valid host"),
        ("redis://h..x", "names no valid host"),
        (f"redis://{'x' * 64}", "names no valid host"),
        (f"redis://{'x.' * 127}x", "names no valid host"),
        ("redis://b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher", "names no valid host"),
        ("redis://h%41", "names no valid host"),
        ("redis://::1:6379", "names no host"),
        ("redis://[::1", "names no valid host"),
        ("redis://[::1]6379", "names no valid host"),
        ("redis://[SECRET]", "names no valid host"),
        ("redis://[]", "names no valid host"),
        # white space
        ("redis://h:1/0 ", "white space"),
        ("redis://h:1/0\n", "white space"),
        ("redis://:SEC RET@h", "white space"),
        ("redis://h\t:1", "white space"),
        ("redis://h\N{NO-BREAK SPACE}", "white space"),
        ("redis://h\x7f", "control character"),
        # a socket
        ("unix://", "names no socket"),
        ("unix:///", "names no socket"),
        ("unix://run/redis.sock", "names a host"),
        ("unix://u:SECRET@run/redis.sock", "names a host"),
        ("unix:///run/50%.sock", "that encodes nothing"),
        ("unix:///run/%00", "a zero byte"),
    ],
)
def test_what_is_refused(url: str, reason: str) -> None:
    with pytest.raises(StoreUrlError) as caught:
        parse_redis_url(url)
    told = str(caught.value)
    assert reason in told
    assert "SEC" not in told
    assert "\n" not in told
    assert caught.value.url == url.partition("://")[0] + "://..."


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_any_password_that_is_percent_encoded_arrives_whole(password: str) -> None:
    shown, arguments = parse_redis_url(f"redis://u:{quote(password, safe='')}@h:1/0")
    assert shown == "redis://h:1/0"
    assert arguments["password"] == password


@given(st.text(max_size=40), st.sampled_from(["redis", "rediss", "unix"]))
def test_any_text_is_read_or_refused(text: str, scheme: str) -> None:
    with suppress(StoreUrlError):
        assert parse_redis_url(f"{scheme}://{text}")[0].isprintable()
