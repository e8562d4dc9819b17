"""Real processes are started, restarted, stopped and, if need be, killed."""

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from stack.children import ChildSpec
from stack.errors import ChildFailedError
from stack.guard import MARK, Guard
from stack.supervisor import Supervisor
from tests.eventually import eventually, eventually_async

SERVES = "import pathlib, time; pathlib.Path({pid!r}).write_text(str(__import__('os').getpid())); time.sleep(600)"

# A supervisor with a PostgreSQL, and with a child that has a child in a session of its own.
SUPERVISING = """
import asyncio, sys
from pathlib import Path
from stack.children import ChildSpec
from stack.postgres import Postgres
from stack.supervisor import Supervisor
from tests.integration.stack.test_supervisor import Silent

async def main(folder):
    postgres = Postgres(folder, folder / "postgres.log", is_durable=False)
    postgres.initialize()
    async def at_once(): return True
    grandchild = "import subprocess, time; subprocess.Popen(['sleep', '600'], start_new_session=True); time.sleep(600)"
    async with Supervisor(Silent()) as supervisor:
        await supervisor.start(postgres.spec())
        await supervisor.start(ChildSpec("parent", [sys.executable, "-c", grandchild], folder / "log", at_once))
        await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1])))
"""


class Silent:
    """A reporter that keeps what it was told."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def starting(self, name: str) -> None: ...
    def serving(self, name: str, took: timedelta) -> None: ...
    def stopping(self, name: str) -> None: ...

    def problem(self, message: str) -> None:
        self.problems.append(message)


def spec(folder: Path, code: str) -> ChildSpec:
    async def is_ready() -> bool:
        return (folder / "pid").exists()

    return ChildSpec("sleeper", [sys.executable, "-c", code], folder / "sleeper.log", is_ready)


async def test_a_child_that_dies_is_started_again(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    reporter = Silent()
    async with Supervisor(reporter) as supervisor:
        await supervisor.start(spec(tmp_path, SERVES.format(pid=str(pid))))
        first = int(pid.read_text())
        os.kill(first, signal.SIGKILL)

        async def is_another() -> int | None:
            text = pid.read_text()
            return int(text) if text and int(text) != first else None

        second = await eventually_async(is_another)
        assert "sleeper ended with SIGKILL" in reporter.problems[0]
        await supervisor.stop(["sleeper"])
        assert second is not None
        assert not psutil.pid_exists(second)


async def test_a_child_that_ends_at_its_start_shows_its_own_words(tmp_path: Path) -> None:
    async with Supervisor(Silent()) as supervisor:
        with pytest.raises(ChildFailedError, match="sleeper ended at its start with code 3") as caught:
            await supervisor.start(spec(tmp_path, "print('no such table'); raise SystemExit(3)"))
    assert caught.value.tail == ["no such table"]


@pytest.mark.parametrize("killed_by", ["signal", "guard of a stack around it"])
def test_sigkill_of_the_supervisor_leaves_no_process(tmp_path: Path, killed_by: str) -> None:
    guard = Guard()
    command = [sys.executable, "-c", SUPERVISING, str(tmp_path)]
    with subprocess.Popen(command, env={**os.environ, MARK: guard.mark}) as process:
        try:
            supervisor = psutil.Process(process.pid)

            def whole_family() -> list[psutil.Process]:
                family = supervisor.children(recursive=True)
                return family if {"postgres", "sleep"} <= {child.name() for child in family} else []

            family = eventually(whole_family)
            if killed_by == "signal":
                process.kill()
        finally:
            guard.close()
    eventually(lambda: not [child for child in family if child.is_running()])
