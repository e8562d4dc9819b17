import os
import socket

import pytest

from stack.errors import StackError
from stack.ports import free_ports, is_free, require_free


def test_a_taken_port_is_named_with_its_owner_and_its_option() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not is_free(port)
        with pytest.raises(StackError, match=rf"Port {port} is taken by process {os.getpid()} .*--temporal-port"):
            require_free({"--temporal-port": port})


def test_two_options_cannot_share_a_port() -> None:
    (port,) = free_ports(1)
    with pytest.raises(StackError, match=f"--port and --temporal-port are both {port}"):
        require_free({"--port": port, "--temporal-port": port})
