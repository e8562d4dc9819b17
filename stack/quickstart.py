"""`tcloud quickstart`: the main job, once, on real parts, with everything to be seen."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from stack.data_dir import DataDir
from stack.dev import show_error
from stack.embedded import EmbeddedStack, Ports
from stack.errors import StackError
from stack.ports import free_ports, is_free
from stack.screen import Screen
from stack.settings import load_temporal_settings
from stack.supervisor import run_until_signal
from stack.tour import Tour

__all__ = ["run_quickstart"]


def run_quickstart(data_dir: Path | None, *, keep: bool, port: int) -> int:
    """Runs the tour; returns the exit code. Without a `data_dir` nothing remains, but the logs of a failure."""
    screen = Screen(Console())
    try:
        settings = load_temporal_settings()
        wanted = (port, settings.listen.port, settings.listen.ui_port)
        ports = Ports(*(wanted if all(map(is_free, wanted)) else free_ports(len(wanted))))
        with _data_dir(data_dir) as data, data.locked():
            stack = EmbeddedStack(data, ports, settings, screen, is_durable=data_dir is not None)
            run_until_signal(Tour(stack, screen).run(keep=keep), stack.supervisor)
        screen.line("Stopped: nothing is left running.")
    except StackError as error:
        show_error(error)
        return error.exit_code
    return 0


@contextmanager
def _data_dir(given: Path | None) -> Iterator[DataDir]:
    if given is not None:
        yield DataDir(given)
        return
    temporary = Path(tempfile.mkdtemp(prefix="tempomesh-quickstart-"))
    data = DataDir(temporary)
    try:
        yield data
    except StackError:
        # The message names a log: that is worth keeping.
        for path in temporary.iterdir():
            if path != data.logs:
                _remove(path)
        raise
    except BaseException:
        _remove(temporary)
        raise
    _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
