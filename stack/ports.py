"""TCP ports on the loopback: which are free, and who has the others."""

import socket
from collections.abc import Mapping
from contextlib import ExitStack, suppress

import psutil

from stack.errors import StackError

__all__ = ["free_ports", "is_free", "owner_of", "require_free"]

LOOPBACK = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Distinct ports that nobody listens on at this moment; somebody else may take them before you do."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def owner_of(port: int) -> str | None:
    """Process id and name of who listens on the port; None where the system does not tell."""
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr or not connection.pid:
                continue
            if connection.laddr.port == port:
                with suppress(psutil.Error):
                    return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return None


def require_free(ports: Mapping[str, int]) -> None:
    """Checks every port before anything is started; the keys are the options that choose them.

    Raises:
        StackError: naming the first port that is taken, by whom if known, and the option to change.
    """
    seen: dict[int, str] = {}
    for option, port in ports.items():
        if port in seen:
            raise StackError(f"{seen[port]} and {option} are both {port}: give each a port of its own.")
        seen[port] = option
        if not is_free(port):
            owner = owner_of(port)
            by = f" by {owner}" if owner else ""
            raise StackError(f"Port {port} is taken{by}: stop it, or choose another with {option}.")
