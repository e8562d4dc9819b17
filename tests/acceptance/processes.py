"""A `tcloud` command in a session of its own, and everybody who descends from it."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from stack.guard import MARK, Guard
from stack.processes import tcloud_command
from tests.eventually import eventually

__all__ = ["Command", "command"]


class Command:
    """A running command whose output goes to a file."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self.output = output
        self._family: dict[int, psutil.Process] = {}

    def text(self) -> str:
        """What it has printed."""
        return self.output.read_text()

    def wait_for(self, text: str, timeout: float = 120) -> None:
        """Returns once it has printed the text; fails if it ends before."""

        def has_printed() -> bool:
            self.family()
            is_over = self.process.poll() is not None
            if text in self.text():
                return True
            if is_over:
                raise RuntimeError(f"it ended with {self.process.returncode}:\n{self.text()}")
            return False

        eventually(has_printed, timeout)

    def family(self) -> list[psutil.Process]:
        """Every descendant that was seen so far."""
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                self._family.setdefault(child.pid, child)
        return list(self._family.values())

    def end(self, number: signal.Signals, timeout: float = 60) -> int:
        """Sends a signal, waits for the end of the command and of all its descendants, and returns the exit code."""
        family = self.family()
        self.process.send_signal(number)
        code = self.process.wait(timeout)
        eventually(lambda: not [child for child in family if child.is_running()], timeout)
        return code


@contextmanager
def command(output: Path, *arguments: str) -> Iterator[Command]:
    """Starts `tcloud` with these arguments; whatever is left at the end is killed."""
    guard = Guard()
    try:
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*tcloud_command(), *arguments],
                stdout=file,
                stderr=file,
                env={**os.environ, MARK: guard.mark},
                start_new_session=True,
            )
        try:
            yield Command(process, output)
        finally:
            process.kill()
            process.wait()
    finally:
        guard.close()
