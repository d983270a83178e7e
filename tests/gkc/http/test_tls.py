"""Certificates of the service and of its callers: what is refused before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from gkc.errors import CommandError
from gkc.http.tls import follow_tls
from gkc.settings import Settings
from tests.redis_server import make_certificate


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def test_without_a_certificate_there_is_no_tls() -> None:
    assert follow_tls(Settings()) is None


def test_certificate_and_key_may_be_one_file(pair: tuple[Path, Path], tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(pair[0].read_bytes() + pair[1].read_bytes())
    assert follow_tls(Settings(tls_cert_file=both)) is not None


def test_files_that_do_not_fit_are_named(pair: tuple[Path, Path], tmp_path: Path) -> None:
    certificate, key = pair
    noise = tmp_path / "noise.pem"
    noise.write_text("noise")
    wrong = [
        (
            Settings(tls_cert_file=certificate),
            "certificate.pem must hold a certificate and its key",
        ),
        (Settings(tls_cert_file=certificate, tls_key_file=noise), "noise.pem must hold"),
        (
            Settings(tls_cert_file=certificate, tls_key_file=key, tls_client_ca_file=noise),
            "noise.pem must hold certificates as PEM",
        ),
        (Settings(tls_cert_file=tmp_path / "none"), "none cannot be read"),
    ]
    for settings, words in wrong:
        with pytest.raises(CommandError, match=words):
            follow_tls(settings)
