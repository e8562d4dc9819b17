"""Runner processes: a zygote that has imported SQLMesh, and the children it forks, one for each evaluation at a time.

Importing SQLMesh takes seconds, forking a process that has done so takes milliseconds and shares its memory. The
zygote runs nobody's code and opens no connection to a warehouse; a child lives until its executor closes its end.

Messages are JSON over `multiprocessing.connection`, so nothing that a model could have tampered with is unpickled.
"""

import ctypes
import gc
import json
import os
import resource
import signal
import sys
import traceback
import typing as t
from contextlib import suppress
from multiprocessing.connection import Client, Connection
from pathlib import Path

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_ZYGOTE = "zygote"
_ALLOCATIONS_BETWEEN_COLLECTIONS = 50_000


def main(address: str, authkey_hex: str) -> None:
    """Serves as a zygote until the executor closes the connection.

    Args:
        address: The executor's unix socket.
        authkey_hex: The key that its listener asks for.
    """
    # SQLMesh's loader forks a process per core where it may; here every process belongs to the executor.
    os.environ["MAX_FORK_WORKERS"] = "1"
    # SQLMesh would start a thread that reports its use to its makers; nothing may leave an executor's network unasked.
    os.environ["SQLMESH__DISABLE_ANONYMIZED_ANALYTICS"] = "true"
    # Imported once, for all children.
    from tempomesh_runner import tasks  # noqa: F401
    from tempomesh_runner.crons import remember_crons
    from tempomesh_runner.integrity import remember_code
    from tempomesh_runner.rehearsal import rehearse

    rehearse()
    remember_crons()
    remember_code()

    # What is imported by now lives as long as the processes: no collection of theirs walks through it or copies it, and
    # so do the snapshots that they come to keep, so that it pays to look for garbage rarely.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS_BETWEEN_COLLECTIONS, 20, 100)
    authkey = bytes.fromhex(authkey_hex)
    control = _connect(address, authkey, _ZYGOTE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    while (command := _receive(control)) is not None:
        _reap(control)
        if command["command"] == "fork":
            pid = os.fork()
            if pid == 0:
                control.close()
                _child(address, authkey, command)
        _reap(control)


def _child(address: str, authkey: bytes, command: dict[str, t.Any]) -> t.NoReturn:
    os.setpgid(0, 0)
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # What a model starts and leaves behind becomes a child of this process, and is found and ended with it.
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    output = os.open(command["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    # What a process has in memory, connections among it, is not to be left behind on a disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_memory(command.get("memory_limit"))
    code = 0
    try:
        connection = _connect(address, authkey, command["name"])
        # A process that a model forks must not speak in this one's place.
        os.register_at_fork(after_in_child=lambda: _leave(connection))
        _serve(connection)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _leave(connection: Connection) -> None:
    connection.close()
    with suppress(ValueError):
        # Its signals would be taken for this process's.
        signal.set_wakeup_fd(-1)


def _limit_memory(limit: str | None) -> None:
    with suppress(OSError):
        # If memory runs out all the same, the kernel takes a runner and not the executor.
        Path("/proc/self/oom_score_adj").write_text("500")
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (int(limit), int(limit)))


def _serve(executor: Connection) -> None:
    from sqlmesh.utils import errors

    from tempomesh_runner.cancellation import end_on_sigterm
    from tempomesh_runner.causes import StateUnavailableError
    from tempomesh_runner.tasks import Worker, describe_error

    def call_state(method: str, body: bytes) -> bytes:
        _send(executor, {"state": method, "body": body.decode()})
        answer = _receive(executor)
        if answer is None:
            raise EOFError("the executor is gone")
        if failure := answer.get("error"):
            if failure.get("retryable"):
                raise StateUnavailableError(failure["message"])
            known = getattr(errors, failure["error_type"], errors.SQLMeshError)
            raise known(failure["message"])
        return t.cast(str, answer["result"]).encode()

    worker = Worker(call_state, lambda event: _send(executor, {"events": [event]}))
    end_on_sigterm(worker.cancel_queries)
    while (message := _receive(executor)) is not None:
        if "connections" in message:
            # Through the pipe and not among the variables, which others of this user can read in /proc.
            worker.use_connections(message["connections"])
            continue
        try:
            result = worker.run(message["task"], message["arguments"])
        except (Exception, SystemExit) as error:
            print(worker.hide(traceback.format_exc()), file=sys.stderr, flush=True)  # noqa: T201 (its log)
            _send(executor, {"failed": worker.hide(describe_error(error)), "spoilt": worker.is_spoilt})
        else:
            _send(executor, {"done": result, "spoilt": worker.is_spoilt})


def _connect(address: str, authkey: bytes, name: str) -> Connection:
    connection = Client(address, family="AF_UNIX", authkey=authkey)
    _send(connection, {"name": name, "pid": os.getpid()})
    return connection


def _send(connection: Connection, message: dict[str, t.Any]) -> None:
    connection.send_bytes(json.dumps(message).encode())


def _receive(connection: Connection) -> dict[str, t.Any] | None:
    try:
        return t.cast(dict[str, t.Any], json.loads(connection.recv_bytes()))
    except (EOFError, ConnectionError):
        return None


def _reap(control: Connection) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _send(control, {"exited": pid, "code": os.waitstatus_to_exitcode(status)})
