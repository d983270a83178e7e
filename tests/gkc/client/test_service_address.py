"""Addresses: which URL is one, and which is asked next."""

from __future__ import annotations

import pytest

from gkc.client.service_address import Address, Addresses


@pytest.mark.parametrize(
    ("url", "told", "host", "port", "prefix", "header"),
    [
        ("http://h:8000", "http://h:8000", "h", 8000, "", "h:8000"),
        ("http://H/", "http://h", "h", 80, "", "h"),
        ("https://h:443/a/b/", "https://h/a/b", "h", 443, "/a/b", "h"),
        ("http://[::1]:81/x", "http://[::1]:81/x", "::1", 81, "/x", "[::1]:81"),
        ("HTTPS://127.0.0.1", "https://127.0.0.1", "127.0.0.1", 443, "", "127.0.0.1"),
    ],
)
def test_a_url_is_read(url: str, told: str, host: str, port: int, prefix: str, header: str) -> None:
    address = Address(url)
    assert (address.url, address.host, address.port) == (told, host, port)
    assert (address.prefix, address.host_header) == (prefix, header)
    assert address.is_tls == told.startswith("https")


def test_the_address_with_the_fewest_requests_is_next() -> None:
    addresses = Addresses(["http://a", "http://b", "http://c"])
    taken = [addresses.take([]) for _ in range(6)]
    assert {address.in_flight for address in addresses.all} == {2}
    addresses.release(taken[0])
    assert addresses.take([]) is taken[0]


def test_ties_are_broken_at_random() -> None:
    firsts = {Addresses(["http://a", "http://b"]).take([]).url for _ in range(64)}
    assert firsts == {"http://a", "http://b"}


def test_those_that_failed_or_were_tried_come_last() -> None:
    addresses = Addresses(["http://a", "http://b"])
    bad, good = addresses.all
    bad.failed()
    assert [addresses.take([]) for _ in range(3)] == [good] * 3
    assert addresses.take([good]) is good
    good.failed()
    assert addresses.take([good]) is bad  # all are bad: the untried one
    assert not addresses.has_other([])
    bad.succeeded()
    assert addresses.has_other([good])
    assert not addresses.has_other([bad])


def test_an_address_is_left_out_longer_each_time_but_not_forever() -> None:
    address = Address("http://a")
    ends = []
    for _ in range(12):
        before = address.left_out_until
        address.failed()
        ends.append(address.left_out_until - before)
    assert ends[1] < ends[4]
    assert ends[-1] < 6
    address.succeeded()
    assert address.left_out_until == 0
