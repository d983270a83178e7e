"""The socket that all workers of a service listen on."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from typing import Final

from gkc.errors import CommandError

BACKLOG: Final = 2048
_SO_ATTACH_FILTER: Final = 26
_INSTRUCTIONS: Final = (
    (0x30, 0, 0, 13),  # load the flags of the TCP header
    (0x45, 0, 1, 0x02),  # if they ask for a new connection, go on, else skip one
    (0x06, 0, 0, 0),  # keep nothing of the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # keep all of it
)
_DROP_NEW: Final = b"".join(struct.pack("HBBI", *each) for each in _INSTRUCTIONS)
"""A packet filter. What ends the making of a connection passes: the caller sees it as made."""


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address.

    Raises
    ------
    CommandError
        If that cannot be done.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as exc:
        raise CommandError(
            f"cannot listen on {host}, port {port}: {exc.strerror or exc}; "
            "stop what uses it, or choose others with --host, --port and GKC_ADMIN_PORT"
        ) from exc


def take_no_more(listener: socket.socket) -> None:
    """Have the kernel make no new connections, in any process, while those made are accepted.

    Closing a listener resets connections that were made and not accepted yet, requests with them.
    Whoever tries to connect tries again a second later, and is refused then. Only Linux has this.
    """
    if sys.platform == "linux":
        program = ctypes.create_string_buffer(_DROP_NEW)
        option = struct.pack("HL", len(_INSTRUCTIONS), ctypes.addressof(program))
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)
