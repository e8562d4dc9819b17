"""Questions to the warehouse, put to executors: this machine has no connection to it."""

import typing as t
from collections.abc import Callable
from contextlib import suppress
from uuid import uuid4

from sqlmesh.core.console import get_console
from sqlmesh.core.snapshot import Snapshot
from sqlmesh.utils.errors import SQLMeshError

from tcloud.api.waiting import telling_of_executors
from tcloud.errors import TcloudError
from tcloud.scheduler.following import show_events
from tcloud.scheduler.session import current_session
from tcloud.wire.executors import ExecutorKind
from tcloud.wire.queries import QueryKind, QueryPython, QueryRequest
from tcloud.wire.statuses import Status

__all__ = ["Answer", "Ask", "ask_of"]

Answer = dict[str, t.Any]
Ask = Callable[[QueryKind, dict[str, t.Any]], Answer]
"""Puts a question of a kind, with its arguments, and returns the answer; raises `SQLMeshError` if there is none."""


def _no_code(kind: QueryKind) -> QueryPython:  # noqa: ARG001 (the signature)
    return QueryPython()


def ask_of(gateway: str, python_for: Callable[[QueryKind], QueryPython] = _no_code) -> Ask:
    """What puts questions to the executors that serve a gateway.

    Args:
        gateway: Its name.
        python_for: What the project's code needs that a kind of question has executed.
    """

    def ask(kind: QueryKind, arguments: dict[str, t.Any]) -> Answer:
        return _ask(gateway, kind, arguments, python_for(kind))

    return ask


def _ask(gateway: str, kind: QueryKind, arguments: dict[str, t.Any], python: QueryPython) -> Answer:
    """Has an executor answer, and shows meanwhile what SQLMesh's console is told there.

    Raises:
        SQLMeshError: If it fails; the message is the executor's.
        TcloudError: If the server cannot be reached or does not allow it.
    """
    api, console = current_session().api, get_console()
    query_id = uuid4().hex
    request = QueryRequest(query_id=query_id, kind=kind, gateway=gateway, arguments=arguments, python=python)
    api.submit_query(request)
    try:
        with telling_of_executors(api, ExecutorKind.APPLY, console.log_status_update):
            ended = show_events(api.query_events(query_id), console, _no_snapshot)
        if ended.status != Status.SUCCESS:
            raise SQLMeshError(ended.error_message or "The executor gave no reason.")
        answer: Answer = api.query_answer(query_id)
    except KeyboardInterrupt:
        with suppress(TcloudError):
            api.cancel_query(query_id)
        raise
    with suppress(TcloudError):
        # They are rows of the warehouse: the server need not have them a moment longer.
        api.forget_query(query_id)
    return answer


def _no_snapshot(name: str, identifier: str) -> Snapshot:
    raise KeyError(f"{name} {identifier}: queries tell of no snapshots")
