"""Nobody waits in silence: whoever watches a plan or a run is told when there is no executor to do the work."""

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
    """Says, while the body runs, when no executor of a kind is alive, and when there is one again.

    Args:
        api: The project's server; one that does not answer is none of this function's business.
        kind: Which executors the body waits for.
        say: Takes each line, in a thread of its own.
    """
    over = threading.Event()

    def watch() -> None:
        is_told = False
        while not over.is_set():
            try:
                is_alive = _is_alive(api, kind)
            except (TcloudError, RuntimeError):
                # The server is away, or the client has just been closed: whoever follows the events tells that.
                is_alive = not is_told
            if is_alive == is_told and not over.is_set():
                say(_gone(kind) if not is_told else f"An executor of kind '{kind}' is up.")
                is_told = not is_told
            over.wait(_EVERY_SECONDS)

    watcher = threading.Thread(target=watch, name="executors", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join(_END_SECONDS)


def say_if_none(api: Api, kind: ExecutorKind, say: Callable[[str], None]) -> None:
    """Says so if no executor of a kind is alive now."""
    if not _is_alive(api, kind):
        say(_gone(kind))


def _is_alive(api: Api, kind: ExecutorKind) -> bool:
    return any(executor.kind is kind and executor.status == _READY for executor in api.executors())


def _gone(kind: ExecutorKind) -> str:
    return (
        f"Waiting for an executor of kind '{kind}': none is alive. "
        f"Start `tcloud executor {kind}` where the warehouse is; `tcloud executors list` shows what there is."
    )
