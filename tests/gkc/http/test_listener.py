"""The socket that workers share: how the last of them stops listening."""

from __future__ import annotations

import socket
import sys

import pytest

from gkc.http.listener import listen, take_no_more


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has packet filters of sockets")
def test_connections_that_were_made_are_accepted_and_no_others() -> None:
    with listen("127.0.0.1", 0) as listener:
        address = listener.getsockname()
        with socket.create_connection(address, timeout=5) as made:
            take_no_more(listener)
            with pytest.raises(TimeoutError):
                socket.create_connection(address, timeout=0.05)
            made.sendall(b"a request")
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.recv(100) == b"a request"
