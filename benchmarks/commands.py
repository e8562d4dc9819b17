"""Commands with a stop watch, and the memory of process trees."""

import compileall
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import psutil

__all__ = ["PeakMemory", "compile_installed", "peak_memory", "sqlmesh_command", "timed"]

SAMPLE_SECONDS = 0.2
OWN_PACKAGES = ("activities", "envmanager", "server", "stack", "tcloud", "tempomesh_runner", "workers", "workflows")


def sqlmesh_command() -> str:
    """Path of SQLMesh's own command line, as it is installed beside this Python."""
    return str(Path(sys.executable).with_name("sqlmesh"))


def compile_installed() -> None:
    """Compiles all that either side imports, as installers and first uses do: no round is to be the first one."""
    folders = [Path(sysconfig.get_path("purelib"))]
    for package in OWN_PACKAGES:
        spec = find_spec(package)
        assert spec is not None, package
        folders.extend(Path(folder) for folder in spec.submodule_search_locations or ())
    for folder in folders:
        compileall.compile_dir(folder, quiet=2, workers=0)


@dataclass
class PeakMemory:
    """The largest resident set of any single process of some process trees, in bytes, and whose it was."""

    size: int = 0
    process: str = ""
    by_process: dict[str, int] = field(default_factory=dict)
    """The same for each command line."""

    def see(self, process: psutil.Process) -> None:
        """Takes one look at a process."""
        with suppress(psutil.Error):
            size, name = process.memory_info().rss, " ".join(process.cmdline())[:120]
            self.by_process[name] = max(size, self.by_process.get(name, 0))
            if size > self.size:
                self.size, self.process = size, name


@contextmanager
def peak_memory(*roots: int) -> Iterator[PeakMemory]:
    """Watches these processes and all their descendants, for as long as the context is open."""
    peak = PeakMemory()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_SECONDS):
            for root in roots:
                with suppress(psutil.Error):
                    process = psutil.Process(root)
                    for member in (process, *process.children(recursive=True)):
                        peak.see(member)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def timed(
    command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], watched: Sequence[int] = ()
) -> tuple[float, PeakMemory, str]:
    """Runs a command to its end.

    Returns:
        Seconds from its start to its exit, the memory of its process tree and of the `watched` ones, and its output.

    Raises:
        RuntimeError: it failed; its output is in the message.
    """
    log = cwd / "command.log"
    with log.open("w") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=output, stderr=subprocess.STDOUT)
        with peak_memory(process.pid, *watched) as peak:
            code = process.wait()
            seconds = time.perf_counter() - start
    if code:
        raise RuntimeError(f"{' '.join(command)} failed with {code}:\n{log.read_text()}")
    return seconds, peak, log.read_text()
