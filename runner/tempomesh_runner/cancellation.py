"""Stops the queries of this process where they run: a warehouse goes on with a query whose client has been killed."""

import os
import signal
import typing as t
from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import Thread

from sqlmesh.core.engine_adapter.base import EngineAdapter

__all__ = ["QueryCancellation", "end_on_sigterm"]

_BY_CONNECTION = ("cancel", "interrupt")
"""What drivers call it that have it, callable from another thread than the query's: psycopg2's is the first, DuckDB's
the second."""

_EXIT_CODE = 128 + signal.SIGTERM


class QueryCancellation:
    """Knows the connections that engine adapters open, and cancels what runs on them."""

    def __init__(self) -> None:
        self._connections: list[t.Any] = []
        self._adapters: list[EngineAdapter] = []

    def watch(self, adapter: EngineAdapter) -> None:
        """Notes the connections that an adapter, and those made of it, will open."""
        pool = t.cast(t.Any, adapter._connection_pool)
        factory = pool._connection_factory

        def connect() -> t.Any:
            connection = factory()
            self._connections.append(connection)
            return connection

        pool._connection_factory = connect
        self._adapters.append(adapter)

    def cancel(self) -> None:
        """Cancels all queries; of engines whose drivers cannot, the connections end with this process."""
        for connection in self._connections:
            for name in _BY_CONNECTION:
                _try(getattr(connection, name, None))
        for adapter in self._adapters:
            for job in _jobs(adapter):
                _try(getattr(job, "cancel", None))


def end_on_sigterm(cancel: Callable[[], None]) -> None:
    """Has SIGTERM cancel what runs, and then end this process, whatever its main thread is waiting for.

    A signal's handler in Python waits until the main thread comes back from the driver, which may take hours; the byte
    that its arrival writes is read by a thread at once.
    """
    arrivals, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)

    def wait() -> None:
        while os.read(arrivals, 1) != bytes([signal.SIGTERM]):
            pass
        try:
            cancel()
        finally:
            os._exit(_EXIT_CODE)

    Thread(target=wait, name="end-on-sigterm", daemon=True).start()


def _jobs(adapter: EngineAdapter) -> Iterable[t.Any]:
    # BigQuery's adapter keeps its jobs there; the others keep nothing of that name.
    jobs: Iterable[t.Any] = adapter._connection_pool.get_all_attributes("query_job")
    return jobs


def _try(cancel: Callable[[], object] | None) -> None:
    if cancel is not None:
        with suppress(Exception):
            cancel()
