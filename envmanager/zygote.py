"""The first process of a Python environment, from which its runners are forked."""

import asyncio
import json
import secrets
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

import structlog

from envmanager.environments import OWN, PythonEnvironment
from envmanager.errors import ZygoteFailedError

__all__ = ["Zygote"]

_log = structlog.get_logger(__name__)

_PACKAGE = "tempomesh_runner"
_BOOTSTRAP = f"""
import importlib.util, sys
folder = sys.argv[1]
spec = importlib.util.spec_from_file_location(
    "{_PACKAGE}", folder + "/__init__.py", submodule_search_locations=[folder]
)
sys.modules["{_PACKAGE}"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from {_PACKAGE}.process import main
main(sys.argv[2], sys.stdin.readline().strip())
"""
"""Loads one package by its place, so that nothing else of this installation can be imported by a model."""

_THREADS = 1000
"""A bound, not a number: a thread is started for each runner that is waited for, and one each for the listener and
the zygote."""

_BACKLOG = 128
_START_SECONDS = 90.0
_FORK_SECONDS = 30.0
_EXIT_SECONDS = 5.0
_REAP_POLL_SECONDS = 0.05
_TAIL_CHARACTERS = 2000


class Zygote:
    """Starts a Python environment's first process and forks runners from it.

    Args:
        environment: The interpreter.
        variables: The environment variables of all its processes.
        scratch: A folder for its socket and logs; short, because a unix socket's path is.
        memory_limit_bytes: What a runner may have of memory of its own: beyond it, allocations fail. None is no limit.
    """

    def __init__(
        self,
        environment: PythonEnvironment,
        variables: Mapping[str, str],
        scratch: Path,
        memory_limit_bytes: int | None = None,
    ):
        self._environment = environment
        self._variables = dict(variables)
        self._scratch = scratch
        self._memory_limit_bytes = memory_limit_bytes
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="runner-io")
        self._process: asyncio.subprocess.Process | None = None
        self._listener: Listener | None = None
        self._control: Connection | None = None
        self._joined: dict[str, asyncio.Future[tuple[Connection, int]]] = {}
        self._exits: dict[int, asyncio.Future[int]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._forked = 0
        self._restarting = asyncio.Lock()

    async def start(self) -> None:
        """Starts the process and waits until it has imported SQLMesh.

        Raises:
            ZygoteFailedError: If it does not come up; with the last of what it printed.
        """
        address = str(self._scratch / f"z{secrets.token_hex(4)}")
        authkey = secrets.token_bytes(32)
        self._listener = Listener(address, family="AF_UNIX", authkey=authkey, backlog=_BACKLOG)
        spec = find_spec(_PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise ZygoteFailedError(f"The package {_PACKAGE} is not installed beside the executor.")
        log = self._scratch / "zygote.log"
        with log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                str(self._environment.interpreter),
                # A built environment has its bytecode, and is not written to.
                *(["-I"] if self._environment.key == OWN else ["-I", "-B"]),
                "-c",
                _BOOTSTRAP,
                spec.submodule_search_locations[0],
                address,
                env=self._variables,
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        self._process.stdin.write(authkey.hex().encode() + b"\n")
        self._process.stdin.close()
        joined = self._expect("zygote")
        self._tasks = [asyncio.create_task(self._accept()), asyncio.create_task(self._watch_start(log))]
        try:
            control, _ = await asyncio.wait_for(joined, _START_SECONDS)
        except (TimeoutError, ZygoteFailedError) as error:
            await self._disconnect()
            raise ZygoteFailedError(f"A runner of {self._environment.interpreter} did not start: {error}") from error
        self._control = control
        self._tasks.append(asyncio.create_task(self._read_exits(control)))

    async def fork(self) -> tuple[int, Connection, Path]:
        """Forks a runner; returns its process id, connection and log file. A zygote that has ended is started again.

        Raises:
            ZygoteFailedError: If it does not come up again, or forks nothing in time.
        """
        async with self._restarting:
            if self._has_ended:
                _log.warning("zygote_restarted", code=self._process.returncode if self._process else None)
                await self._disconnect()
                await self.start()
        self._forked += 1
        name = f"runner-{self._forked}"
        log = self._scratch / f"{name}.log"
        joined = self._expect(name)
        try:
            limit = {"memory_limit": str(self._memory_limit_bytes)} if self._memory_limit_bytes else {}
            await self._command({"command": "fork", "name": name, "log": str(log), **limit})
            connection, pid = await asyncio.wait_for(joined, _FORK_SECONDS)
        except (TimeoutError, OSError) as error:
            raise ZygoteFailedError(f"No runner was forked: {error or type(error).__name__}.") from error
        finally:
            self._joined.pop(name, None)
        # Numbers of processes come back: how an earlier one with this number ended is of no interest.
        self._exits.pop(pid, None)
        return pid, connection, log

    async def exit_code(self, pid: int) -> int | None:
        """How a runner ended: its exit code, or minus the signal's number; None if nobody knows.

        Raises:
            ZygoteFailedError: If the zygote has ended, and all of its runners with it.
        """
        ended = self._exits.setdefault(pid, asyncio.get_running_loop().create_future())
        try:
            async with asyncio.timeout(_EXIT_SECONDS):
                while not ended.done():
                    await self._command({"command": "reap"})
                    await asyncio.wait({ended}, timeout=_REAP_POLL_SECONDS)
                return ended.result()
        except OSError as error:  # A TimeoutError too: nobody has said how it ended.
            if self._has_ended or not isinstance(error, TimeoutError):
                raise ZygoteFailedError("The zygote ended, and its runners with it.") from error
            return None
        finally:
            self._exits.pop(pid, None)

    async def run_blocking(self, function: Any, *args: Any) -> Any:
        """Runs blocking I/O of a runner's connection in a thread of its own."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    async def stop(self) -> None:
        """Ends the process; its runners die with it."""
        await self._disconnect()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def _has_ended(self) -> bool:
        return self._process is not None and self._process.returncode is not None

    async def _disconnect(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._control is not None:
            self._control.close()
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        if self._listener is not None:
            # Closing a socket does not wake a thread that waits in `accept`, and the interpreter joins it at exit.
            with socket.socket(socket.AF_UNIX) as knock, suppress(OSError):
                knock.connect(str(self._listener.address))
            self._listener.close()

    def _expect(self, name: str) -> asyncio.Future[tuple[Connection, int]]:
        future: asyncio.Future[tuple[Connection, int]] = asyncio.get_running_loop().create_future()
        self._joined[name] = future
        return future

    async def _command(self, command: dict[str, str]) -> None:
        if self._control is None:
            raise ZygoteFailedError("The zygote is not running.")
        await self.run_blocking(self._control.send_bytes, json.dumps(command).encode())

    async def _accept(self) -> None:
        assert self._listener is not None  # noqa: S101 - started before this task
        while True:
            try:
                connection = await self.run_blocking(self._listener.accept)
                hello = json.loads(await self.run_blocking(connection.recv_bytes))
            except (OSError, EOFError, AuthenticationError):
                if self._has_ended:
                    return
                continue
            joined = self._joined.pop(hello["name"], None)
            if joined is not None and not joined.done():
                joined.set_result((connection, hello["pid"]))

    async def _watch_start(self, log: Path) -> None:
        assert self._process is not None  # noqa: S101 - started before this task
        code = await self._process.wait()
        printed = await asyncio.to_thread(log.read_text, errors="replace")
        error = ZygoteFailedError(f"it ended with code {code}. {printed[-_TAIL_CHARACTERS:]}".strip())
        for joining in self._joined.values():
            if not joining.done():
                joining.set_exception(error)

    async def _read_exits(self, control: Connection) -> None:
        while True:
            try:
                message = json.loads(await self.run_blocking(control.recv_bytes))
            except (EOFError, OSError):
                return
            ended = self._exits.setdefault(message["exited"], asyncio.get_running_loop().create_future())
            if not ended.done():
                ended.set_result(message["code"])
