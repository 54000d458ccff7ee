"""Ports of this machine's loopback."""

import socket


def free_port() -> int:
    """One that nothing listened on a moment ago."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
