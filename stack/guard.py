"""Watches the supervisor, and kills what it leaves behind.

A supervisor that is killed with SIGKILL cannot stop its children. So it first starts this process, in a session of its
own, with the reading end of a pipe as standard input. When the pipe closes, the supervisor is gone, however it went.
Every process of the stack, grandchildren in sessions of their own included, carries its mark in the environment.
"""

import os
import subprocess
import sys
from contextlib import suppress
from uuid import uuid4

import psutil

__all__ = ["MARK", "Guard", "kill_marked"]

MARK = "TEMPOMESH_STACK"
"""The environment variable that marks every process of one stack."""

GRACE_SECONDS = 5.0


class Guard:
    """A guard process, for as long as this object is open."""

    def __init__(self) -> None:
        self.mark = uuid4().hex
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "stack.guard", self.mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # It must outlive whoever is killed by the guard of a stack around this one, to clear away in its turn.
            env={name: value for name, value in os.environ.items() if name != MARK},
            start_new_session=True,
        )

    def close(self) -> None:
        """Lets the guard kill whatever is left, and waits until it has."""
        assert self._process.stdin is not None  # noqa: S101 (Popen was given a pipe)
        self._process.stdin.close()
        self._process.wait()


def kill_marked(mark: str) -> None:
    """Kills every process that carries the mark.

    PostgreSQL is asked first, so that it takes its shared memory with it; it goes as soon as its clients are gone.
    """
    asked: set[int] = set()
    remaining = _marked(mark)
    while remaining:
        for process in remaining:
            with suppress(psutil.Error):
                if process.pid not in asked and process.name() == "postgres":
                    process.terminate()
                    asked.add(process.pid)
                else:
                    process.kill()
        psutil.wait_procs(remaining, timeout=GRACE_SECONDS)
        remaining = _marked(mark)


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
    return found


if __name__ == "__main__":
    sys.stdin.buffer.read()
    kill_marked(sys.argv[1])
