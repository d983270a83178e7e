"""``gkc serve``: where it refuses to listen."""

from __future__ import annotations

import pytest

from tests.gkc.cli.in_process import gkc


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "here.example"])
def test_it_does_not_listen_to_everybody_unasked(host: str) -> None:
    refused = gkc("serve", "--host", host)
    assert refused.returncode == 2
    for name in ("GKC_API_KEYS_FILE", "GKC_TLS_CLIENT_CA_FILE", "GKC_ALLOW_ANONYMOUS=1"):
        assert name in refused.stderr
