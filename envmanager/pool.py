"""A pool of warm runner processes of one Python environment."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from math import inf
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic
from typing import Any

import psutil

from envmanager.connections import ManagedConnections
from envmanager.errors import RunnerCrashedError, TaskFailedError, ZygoteFailedError
from envmanager.zygote import Zygote

__all__ = ["OnEvents", "OnState", "Role", "Runner", "RunnerPool", "StateCallError"]

OnState = Callable[[str, bytes], Awaitable[bytes]]
"""Answers a runner's state call; raises `StateCallError` with what the runner is to raise."""

OnEvents = Callable[[list[dict[str, Any]]], Awaitable[None]]
"""Takes a runner's console events, in order."""

_LOG_TAIL_CHARACTERS = 4000
_LONGEST_LOG_BYTES = 1_000_000
_END_SECONDS = 3.0


class Role(StrEnum):
    """What a runner is kept for: its caches differ."""

    EVALUATE = "evaluate"
    """One unit at a time; knows the snapshots that it evaluated."""
    PLAN = "plan"
    """Whole plans and environments; knows all their snapshots."""


class StateCallError(Exception):
    """A state call was refused, or did not reach the server.

    Args:
        message: For the user.
        error_type: Name of SQLMesh's exception class.
        retryable: Whether it may succeed later.
    """

    def __init__(self, message: str, error_type: str, *, retryable: bool):
        super().__init__(message)
        self.error_type = error_type
        self.retryable = retryable


class _ConnectionLostError(Exception):
    """The other end of a runner's connection is gone."""


class Runner:
    """A runner process, used by one task at a time.

    Args:
        zygote: What it was forked from.
        pid: Its process id, which is also that of its process group.
        connection: To it.
        log: Where its output goes.
        managed: The connections of the project's vault.
    """

    def __init__(self, zygote: Zygote, pid: int, connection: Connection, log: Path, managed: ManagedConnections):
        self._zygote = zygote
        self._connection = connection
        self._log = log
        self._log_start = 0
        self._managed = managed
        self.pid = pid
        self.revision = managed.revision
        """Of the connections that it has."""
        self.tasks = 0
        self.alive = True
        self.is_spoilt = False
        """Whether a task has left behind what the next one would meet; it gets no other."""

    async def connect(self) -> None:
        """Hands the connections of the vault to the process, opened at this moment; before its first task."""
        if opened := self._managed.opened():
            # One that has ended meanwhile says so when it is called.
            with suppress(_ConnectionLostError):
                await self._send({"connections": opened})

    async def call(
        self, task: str, arguments: dict[str, Any], on_state: OnState, on_events: OnEvents | None = None
    ) -> dict[str, Any]:
        """Has a task executed and returns its result.

        Raises:
            TaskFailedError: If the task raised.
            RunnerCrashedError: If the process ended; what it printed during this task is in it.
            ZygoteFailedError: If it ended because the zygote did, which is nobody's model's fault.
            asyncio.CancelledError: If the caller was cancelled; the process's queries have been cancelled then, and
                it has ended.
        """
        self.tasks += 1
        self._log_start = self._start_of_log()
        try:
            await self._send({"task": task, "arguments": arguments})
            while True:
                message = await self._receive()
                if "events" in message:
                    if on_events is not None:
                        await on_events(message["events"])
                elif "state" in message:
                    await self._answer(message, on_state)
                elif "failed" in message:
                    failed = message["failed"]
                    self.is_spoilt |= bool(message.get("spoilt"))
                    raise TaskFailedError(
                        failed["message"],
                        failed["error_type"],
                        retryable=failed["retryable"],
                        cause=failed["cause"],
                    )
                else:
                    result: dict[str, Any] = message["done"]
                    self.is_spoilt |= bool(message.get("spoilt"))
                    return result
        except _ConnectionLostError as error:
            self.alive = False
            raise await self._crashed() from error
        except TaskFailedError:
            raise
        except BaseException:
            # Cancelled, or our own fault: whatever the process is doing must not go on unwatched.
            await asyncio.shield(self.end())
            raise

    async def end(self) -> None:
        """Has the process cancel its queries and end; one that has not within seconds is killed."""
        self.alive = False
        # Once it has ended, nobody can tell whose they were.
        started = self._children()
        with suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGTERM)
        with suppress(TimeoutError, ZygoteFailedError):
            await asyncio.wait_for(self._zygote.exit_code(self.pid), _END_SECONDS)
        self.kill()
        _kill_all(started)

    def kill(self) -> None:
        """Kills the process and whatever it started."""
        self.alive = False
        # Of its group or not: whoever left the group is still its child, or its child's.
        _kill_all(self._children())
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        # Shut down, not closed: a thread may be reading it, and would go on reading whatever gets its number next.
        with suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as ours:
            ours.shutdown(socket.SHUT_RDWR)
        self._log.unlink(missing_ok=True)

    @property
    def is_waiting(self) -> bool:
        """Whether the process lives and waits for a task; what it would say unasked is that it has ended."""
        try:
            return self.alive and not self._connection.poll()
        except OSError:
            return False

    @property
    def printed(self) -> str:
        """The last of what the task has printed past Python: a library in another language, a process that it ran."""
        return self._printed()

    @property
    def has_children(self) -> bool:
        """Whether the task has left processes behind; those of its processes that ended are its children, too."""
        try:
            return bool(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text())
        except OSError:
            return False

    @property
    def memory_bytes(self) -> int:
        """What the process has resident."""
        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except psutil.Error:
            return 0

    async def _answer(self, message: dict[str, Any], on_state: OnState) -> None:
        try:
            result = await on_state(message["state"], message["body"].encode())
        except StateCallError as error:
            failure = {"message": str(error), "error_type": error.error_type, "retryable": error.retryable}
            await self._send({"error": failure})
        else:
            await self._send({"result": result.decode()})

    async def _crashed(self) -> RunnerCrashedError:
        code = await self._zygote.exit_code(self.pid)
        printed = await asyncio.to_thread(self._printed)
        self.kill()
        return RunnerCrashedError(f"The runner process {_ending(code)}.", printed)

    def _children(self) -> list[psutil.Process]:
        if not self.has_children:
            return []
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.Error:
            return []

    def _start_of_log(self) -> int:
        """Where in the log the next task begins; what earlier ones printed is thrown away where it is much."""
        try:
            size = self._log.stat().st_size
            if size > _LONGEST_LOG_BYTES:
                os.truncate(self._log, 0)
                return 0
        except OSError:
            return 0
        return size

    def _printed(self) -> str:
        if not self._log.exists():
            return ""
        with self._log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, end - 4 * _LOG_TAIL_CHARACTERS))
            printed = log.read().decode(errors="replace")[-_LOG_TAIL_CHARACTERS:]
        return self._managed.hide(printed) if printed else printed

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            await self._zygote.run_blocking(self._connection.send_bytes, json.dumps(message).encode())
        except (EOFError, OSError) as error:
            raise _ConnectionLostError from error

    async def _receive(self) -> dict[str, Any]:
        try:
            message: dict[str, Any] = json.loads(await self._zygote.run_blocking(self._connection.recv_bytes))
        except (EOFError, OSError) as error:
            raise _ConnectionLostError from error
        return message


class RunnerPool:
    """Warm runners of one Python environment, forked as they are needed.

    Args:
        zygote: What they are forked from; the pool starts and stops it.
        managed: The connections of the project's vault; runners that have others are not used again.
        max_tasks: After so many tasks a runner is replaced.
        max_memory_bytes: A runner that has more resident after a task is replaced.
    """

    def __init__(self, zygote: Zygote, managed: ManagedConnections, max_tasks: int, max_memory_bytes: int):
        self._zygote = zygote
        self._managed = managed
        self._max_tasks = max_tasks
        self._max_memory_bytes = max_memory_bytes
        self._idle: dict[Role, list[Runner]] = {role: [] for role in Role}
        self._busy: set[Runner] = set()
        self._given_back: dict[Runner, float] = {}

    async def start(self) -> None:
        """Starts the zygote.

        Raises:
            ZygoteFailedError: If it does not come up.
        """
        await self._zygote.start()

    async def stop(self) -> None:
        """Ends all runners, and the queries of busy ones, and the zygote."""
        for runner in (runner for idle in self._idle.values() for runner in idle):
            runner.kill()
        await asyncio.gather(*(runner.end() for runner in self._busy))
        await self._zygote.stop()

    @asynccontextmanager
    async def runner(self, role: Role) -> AsyncIterator[Runner]:
        """Lends a runner; the one that was used last comes first, because it is the warmest."""
        runner = await self._take(role)
        self._busy.add(runner)
        try:
            yield runner
        finally:
            self._busy.discard(runner)
            self._give_back(role, runner)

    async def warm(self, role: Role) -> None:
        """Has a runner wait, if none does."""
        if not self._idle[role]:
            self._give_back(role, await self._take(role))

    def end_idle(self) -> None:
        """Ends the runner that has waited longest, if one waits."""
        waiting = [(self._given_back[runner], idle, runner) for idle in self._idle.values() for runner in idle]
        if waiting:
            _, idle, runner = min(waiting, key=lambda found: found[0])
            idle.remove(runner)
            self._forget(runner)

    def end_outdated(self) -> None:
        """Ends the runners that wait and have other connections than they should."""
        for idle in self._idle.values():
            for runner in [runner for runner in idle if runner.revision != self._managed.revision]:
                idle.remove(runner)
                self._forget(runner)

    @property
    def idle_since(self) -> float:
        """Since when the runner waits that has waited longest, by the monotonic clock; infinity if none waits."""
        return min(self._given_back.values(), default=inf)

    @property
    def sizes(self) -> tuple[int, int]:
        """How many runners are busy and how many idle."""
        return len(self._busy), sum(len(idle) for idle in self._idle.values())

    async def _take(self, role: Role) -> Runner:
        while self._idle[role]:
            runner = self._idle[role].pop()
            self._given_back.pop(runner, None)
            if runner.is_waiting and runner.revision == self._managed.revision:
                return runner
            runner.kill()
        pid, connection, log = await self._zygote.fork()
        runner = Runner(self._zygote, pid, connection, log, self._managed)
        await runner.connect()
        return runner

    def _give_back(self, role: Role, runner: Runner) -> None:
        if not runner.alive:
            return
        if (
            runner.is_spoilt
            or runner.revision != self._managed.revision
            or runner.tasks >= self._max_tasks
            or runner.memory_bytes > self._max_memory_bytes
            or runner.has_children
        ):
            runner.kill()
            return
        self._given_back[runner] = monotonic()
        self._idle[role].append(runner)

    def _forget(self, runner: Runner) -> None:
        self._given_back.pop(runner, None)
        runner.kill()


def _kill_all(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.kill()


def _ending(code: int | None) -> str:
    if code is None:
        return "ended for an unknown reason"
    if code == -signal.SIGKILL:
        return "was killed by signal 9 (SIGKILL), as the kernel does when memory runs out"
    if code < 0:
        return f"was killed by signal {-code} ({signal.Signals(-code).name})"
    return f"exited with code {code} in the middle of its task"
