"""A whole Tempomesh on this machine, as `tcloud dev` starts it, for as long as a context is open."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from stack.children import clean_environment
from stack.ports import free_ports
from stack.postgres import WAREHOUSE_DATABASE, Postgres

__all__ = ["RunningStack", "running_stack", "script"]

STOP_SECONDS = 60.0


@dataclass(frozen=True)
class RunningStack:
    """A stack that is ready."""

    process: subprocess.Popen[str]
    data_dir: Path
    temporal_address: str
    environment: dict[str, str]
    """The environment of a client: this process's, with the `TCLOUD_*` variables of an administrator."""

    @property
    def namespace(self) -> str:
        """Temporal's namespace of the project."""
        organization, project = self.environment["TCLOUD_URL"].rstrip("/").split("/")[-2:]
        return f"{organization}.{project}"

    @property
    def postgres(self) -> Postgres:
        """The embedded server: its own database and the warehouse."""
        return Postgres(self.data_dir / "postgres", self.data_dir / "logs" / "postgres.log")

    @property
    def warehouse(self) -> str:
        """Address of the database of the gateway `warehouse`."""
        return self.postgres.dsn(WAREHOUSE_DATABASE)


def script(name: str) -> str:
    """Path of a command that is installed in this Python environment."""
    return str(Path(sys.executable).with_name(name))


@contextmanager
def running_stack(data_dir: Path, *, options: tuple[str, ...] = ()) -> Iterator[RunningStack]:
    """Starts `tcloud dev` on free ports, waits until it is ready, and stops it.

    Args:
        data_dir: Where the stack keeps its data; what is there from before is used again.
        options: More options of `tcloud dev`.

    Raises:
        RuntimeError: the stack ended before it was ready; its output is in the message.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    port, temporal_port, ui_port = (str(port) for port in free_ports(3))
    ports = ("--port", port, "--temporal-port", temporal_port, "--temporal-ui-port", ui_port)
    command = [script("tcloud"), "dev", "--data-dir", str(data_dir), *ports, *options]
    log = data_dir.with_name(f"{data_dir.name}.log")
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=clean_environment(), stdout=subprocess.PIPE, stderr=output, text=True, start_new_session=True
        )
    try:
        _wait_until_ready(process, log)
        variables = {name: value or "" for name, value in dotenv_values(data_dir / "client.env").items()}
        yield RunningStack(process, data_dir, f"127.0.0.1:{temporal_port}", {**clean_environment(), **variables})
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=STOP_SECONDS)
        finally:
            process.kill()


def _wait_until_ready(process: subprocess.Popen[str], log: Path) -> None:
    assert process.stdout
    said = []
    for line in process.stdout:
        said.append(line)
        if line.strip() == "ready":
            return
    raise RuntimeError(f"tcloud dev ended with {process.wait()} before it was ready:\n{''.join(said)}{log.read_text()}")
