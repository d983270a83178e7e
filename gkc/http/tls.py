"""TLS of the service: its certificate, and the authority of its callers' certificates."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from gkc.errors import CommandError
from gkc.http.followed_files import FollowedFiles
from gkc.settings import Settings


def follow_tls(settings: Settings) -> FollowedFiles[ssl.SSLContext] | None:
    """Return the contexts that the settings name, None if they name no certificate.

    Raises
    ------
    CommandError
        If a file cannot be read, or does not hold what it should.
    """
    if settings.tls_cert_file is None:
        return None
    files = settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file
    return FollowedFiles([path for path in files if path], partial(_context, *files))


def context_of(followed: FollowedFiles[ssl.SSLContext]) -> ssl.SSLContext:
    """Return a context for a listener: each connection gets the newest one."""

    def hand_newest(connection: ssl.SSLObject, *_: object) -> None:
        connection.context = followed.value

    listening = followed.value
    listening.sni_callback = hand_newest  # called without a name, too
    return listening


def _context(certificate: Path, key: Path | None, client_ca: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # A password would be asked for on the terminal; an empty one fails.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as exc:  # an ssl.SSLError is an OSError
        named = " and ".join(str(path) for path in (certificate, key) if path)
        raise CommandError(
            f"{named} must hold a certificate and its key as PEM, without a password: {exc}"
        ) from exc
    if client_ca:
        try:
            context.load_verify_locations(client_ca)
        except OSError as exc:
            raise CommandError(f"{client_ca} must hold certificates as PEM: {exc}") from exc
        # Who shows none is refused by what answers, since some paths are open to anybody.
        context.verify_mode = ssl.CERT_OPTIONAL
        # A session taken up again would not be looked at again.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def name_of(certificate: Mapping[str, Any] | None) -> str | None:
    """Return the common name of a caller's certificate, None if it shows none."""
    if not certificate:
        return None
    subject = dict(pair for names in certificate["subject"] for pair in names)
    return str(subject.get("commonName", ""))
