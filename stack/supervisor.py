"""Starts child processes, restarts those that die, and stops them in the reverse order."""

import asyncio
import signal
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from stack.children import Child, ChildSpec
from stack.errors import ChildFailedError
from stack.guard import Guard, kill_marked

__all__ = ["Reporter", "Supervisor", "run_until_signal"]

T = TypeVar("T")

FIRST_BACKOFF = timedelta(seconds=1)
LONGEST_BACKOFF = timedelta(seconds=30)
STABLE_AFTER = timedelta(minutes=1)
"""A child that has served for so long is restarted with the first backoff again."""


class Reporter(Protocol):
    """Who is told how it goes."""

    def starting(self, name: str) -> None:
        """A process is about to start."""

    def serving(self, name: str, took: timedelta) -> None:
        """A process serves."""

    def problem(self, message: str) -> None:
        """Something went wrong that the supervisor deals with."""

    def stopping(self, name: str) -> None:
        """A process is asked to stop."""


class Supervisor:
    """Owns a group of child processes; leaving the context stops them all, whatever the reason."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._children: dict[str, Child] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._guard: Guard | None = None

    @property
    def mark(self) -> str:
        """What every process of this supervisor carries in its environment (`stack.guard`)."""
        assert self._guard is not None, "the supervisor is not open"  # noqa: S101 (a mistake of the caller)
        return self._guard.mark

    async def __aenter__(self) -> Self:
        self._guard = Guard()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # What is not stopped in an orderly way before is killed here.
        await self.restart_nothing()
        await asyncio.gather(*(child.kill() for child in self._children.values()))
        self._children.clear()
        if self._guard is not None:
            await asyncio.to_thread(self._guard.close)

    async def start(self, spec: ChildSpec) -> None:
        """Starts a process, waits until it serves, and from then on restarts it whenever it ends.

        Raises:
            ChildFailedError: if it does not come to serve.
        """
        self._reporter.starting(spec.name)
        started = time.monotonic()
        for attempt in range(1, spec.start_attempts + 1):
            child = self._children[spec.name] = await Child.start(spec, self.mark)
            try:
                await child.ready()
                break
            except ChildFailedError:
                if child.is_running or attempt == spec.start_attempts:
                    raise
        self._reporter.serving(spec.name, timedelta(seconds=time.monotonic() - started))
        self._watchers[spec.name] = asyncio.create_task(self._keep_running(spec), name=f"watch {spec.name}")

    async def restart_nothing(self) -> None:
        """Lets those that end from now on lie, without a word: the stack is about to stop."""
        await self._stop_watching(list(self._watchers))

    async def stop(self, names: Sequence[str]) -> None:
        """Stops these processes, all at a time; those that were never started do not matter."""
        await self._stop_watching(names)
        children = [self._children.pop(name) for name in names if name in self._children]
        for child in children:
            self._reporter.stopping(child.spec.name)
        await asyncio.gather(*(child.stop() for child in children))

    def kill_all(self) -> None:
        """Kills every process of the stack now, without asking."""
        if self._guard is not None:
            kill_marked(self._guard.mark)

    async def _stop_watching(self, names: Sequence[str]) -> None:
        watchers = [self._watchers.pop(name) for name in names if name in self._watchers]
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)

    async def _keep_running(self, spec: ChildSpec) -> None:
        backoff = FIRST_BACKOFF
        while True:
            served_since = time.monotonic()
            code = await self._children[spec.name].process.wait()
            if time.monotonic() - served_since > STABLE_AFTER.total_seconds():
                backoff = FIRST_BACKOFF
            self._reporter.problem(
                f"{spec.name} ended with {_describe_code(code)}; starting it again in {backoff.total_seconds():.0f} s. "
                f"Its log: {spec.log}"
            )
            # Whatever else was in its group must not outlive it.
            await self._children[spec.name].kill()
            await asyncio.sleep(backoff.total_seconds())
            backoff = min(backoff * 2, LONGEST_BACKOFF)
            started = time.monotonic()
            child = self._children[spec.name] = await Child.start(spec, self.mark)
            try:
                await child.ready()
            except ChildFailedError as error:
                self._reporter.problem(str(error))
                await child.kill()
            else:
                self._reporter.serving(spec.name, timedelta(seconds=time.monotonic() - started))


def run_until_signal(main: Coroutine[Any, Any, T], supervisor: Supervisor) -> T | None:
    """Runs `main`; SIGINT or SIGTERM cancels it, so that it stops what it started, and a second one kills that at once.

    Returns None if a signal cancelled it.
    """

    async def run() -> T | None:
        task = asyncio.ensure_future(main)
        is_stopping = False

        def on_signal() -> None:
            nonlocal is_stopping
            if is_stopping:
                supervisor.kill_all()
            is_stopping = True
            task.cancel()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
        with suppress(asyncio.CancelledError):
            return await task
        return None

    return asyncio.run(run())


def _describe_code(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"
