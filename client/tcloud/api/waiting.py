"""Nobody waits in silence: whoever watches a plan or a run is told when there is nobody to do the work."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tcloud.api.client import Api
from tcloud.errors import TcloudError
from tcloud.wire.executors import ExecutorKind

__all__ = ["say_if_none", "telling_of_executors"]

_EVERY_SECONDS = 5.0
_READY = "ready"
_END_SECONDS = 1.0


@contextmanager
def telling_of_executors(api: Api, kind: ExecutorKind, say: Callable[[str], None]) -> Iterator[None]:
    """Says, while the body runs, when no executor of a kind or no control worker is alive, and when there is one again.

    Args:
        api: The project's server; one that does not answer is none of this function's business.
        kind: Which executors the body waits for.
        say: Takes each line, in a thread of its own.
    """
    over = threading.Event()

    def watch() -> None:
        told: dict[str, str] = {}
        while not over.is_set():
            try:
                missing = _missing(api, kind)
            except (TcloudError, RuntimeError):
                # The server is away, or the client has just been closed: whoever follows the events tells that.
                missing = told
            for what in sorted(missing.keys() ^ told.keys()):
                if not over.is_set():
                    say(missing.get(what, f"{what} is up."))
            told = missing
            over.wait(_EVERY_SECONDS)

    watcher = threading.Thread(target=watch, name="executors", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join(_END_SECONDS)


def say_if_none(api: Api, kind: ExecutorKind, say: Callable[[str], None]) -> None:
    """Says so if nobody is alive now who could do the work."""
    for line in _missing(api, kind).values():
        say(line)


def _missing(api: Api, kind: ExecutorKind) -> dict[str, str]:
    """Who is missing, and what to say of it."""
    missing = {}
    if not api.control_workers():
        missing["A control worker"] = (
            "Waiting for a control worker: Temporal has not heard of one for two minutes. Start `tcloud worker`."
        )
    if not any(executor.kind is kind and executor.status == _READY for executor in api.executors()):
        missing[f"An executor of kind '{kind}'"] = (
            f"Waiting for an executor of kind '{kind}': none is alive. "
            f"Start `tcloud executor {kind}` where the warehouse is; `tcloud executors list` shows what there is."
        )
    return missing
