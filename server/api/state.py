"""SQLMesh's state over HTTP: `tempomesh_runner.state` is the contract."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import orjson
import psycopg2
import structlog
from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ValidationError
from sqlmesh.core.state_sync.export_import import import_state
from sqlmesh.utils.errors import SQLMeshError

from server.access import Access, require
from server.api.answers import json_body, problems
from server.api.dependencies import Anyone, Temporal
from server.audit_log import add_entry
from server.errors import ApiError
from server.housekeeping import lock_against_plans
from server.pausing import expand_again
from server.preemption import preempt_runs
from server.projects import Role
from server.promotion import promote
from server.state_reads import read_overlays, stamp_snapshots, stream_snapshots
from tcloud.wire.grants import Action
from tempomesh_runner.state_answers import READ_METHODS, WRITE_METHODS, answer

__all__ = ["router"]

router = APIRouter(tags=["state"])

_WRONG_ARGUMENTS = (
    *(KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError),
    # Of another type than SQLMesh takes for granted: PostgreSQL is the first to notice.
    psycopg2.ProgrammingError,
)


class _Ids(BaseModel):
    ids: list[tuple[str, str]]


_log = structlog.get_logger(__name__)


@router.post(
    "/state-import",
    status_code=204,
    summary="Import a file of `sqlmesh state export`",
    openapi_extra=json_body("The file."),
    responses=problems(s409="A plan or run is in progress (`TM-BUSY`)."),
)
async def import_file(
    request: Request,
    access: Annotated[Access, Depends(require(Action.MANAGE, doing="state.import"))],
    temporal: Temporal,
    replace: bool = False,
) -> None:
    """All of it or nothing; nothing else begins meanwhile."""
    body = await request.body()
    await run_in_threadpool(_import, access, body, replace=replace)
    _log.info("state_imported", by=access.identity_id, bytes=len(body), replace=replace)
    await temporal.maintain(access.project)


@router.post(
    "/state/{method}",
    summary="Call SQLMesh's StateSync",
    response_class=JSONResponse,
    response_model=dict[str, Any] | list[Any] | bool | str | int | None,
    openapi_extra=json_body("The arguments by name, as `tempomesh_runner.state` sends them."),
)
async def call(method: str, request: Request, access: Anyone) -> Response:
    """Applies one call of the state contract. Callers who are no executors may only read, and all of it: a plan is
    made from the definitions of all models and environments."""
    if method not in READ_METHODS and method not in WRITE_METHODS:
        raise ApiError(404, "TM-STATE", f"'{method}' is not a call of the state contract.")
    if method in WRITE_METHODS and access.machine is not Role.EXECUTOR:
        raise access.not_an_executor(
            f"'{method}' changes state, which only executors do: submit a plan to have it changed"
        )
    body = await request.body()
    if method == "get_snapshots":
        return StreamingResponse(_snapshots(access, _ids(body)), media_type="application/json")
    return Response(await run_in_threadpool(_answer, access, method, body), media_type="application/json")


def _import(access: Access, body: bytes, *, replace: bool) -> None:
    with TemporaryDirectory() as folder, access.database.transaction(access.project) as transaction:
        lock_against_plans(transaction)
        file = Path(folder) / "state.json"
        file.write_bytes(body)
        try:
            body.decode()
            import_state(state_sync=transaction.state, input_file=file, clear=replace)
            details = {"bytes": len(body), "replace": replace}
            add_entry(transaction, access.identity_id, access.doing, access.project.namespace, details)
        except SQLMeshError as error:
            raise ApiError(422, "TM-STATE", " ".join(str(error).split()), error_type=type(error).__name__) from error
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError, StopIteration) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ApiError(
                422,
                "TM-STATE",
                f"The file is not a whole one of `sqlmesh state export` ({reason}): nothing was changed.",
            ) from error


def _answer(access: Access, method: str, body: bytes) -> bytes:
    try:
        with access.database.transaction(access.project) as transaction:
            match method:
                case "promote":
                    return promote(transaction, body)
                case "get_snapshot_overlays":
                    return read_overlays(transaction, orjson.loads(body)["ids"])
                case "finalize":
                    environment = orjson.loads(body)["environment"]
                    answered = answer(transaction.state, method, body)
                    preempt_runs(transaction, str(environment["name"]), str(environment["plan_id"]))
                    expand_again(transaction, str(environment["name"]))
                    return answered
                case "get_snapshots_stamp":
                    return stamp_snapshots(transaction, orjson.loads(body)["ids"])
                case _:
                    return answer(transaction.state, method, body)
    except SQLMeshError as error:
        raise ApiError(422, "TM-STATE", str(error), error_type=type(error).__name__) from error
    except psycopg2.DataError:
        raise
    except _WRONG_ARGUMENTS as error:
        reason = " ".join(str(error).split())
        # Without where it happened: whoever calls can make it happen as often as they like.
        _log.warning("state_call_refused", method=method, error_type=type(error).__name__, reason=reason[:200])
        raise ApiError(
            422, "TM-STATE", f"'{method}' cannot be called with these arguments ({type(error).__name__}: {reason})."
        ) from error


def _ids(body: bytes) -> list[tuple[str, str]]:
    """The ids that are asked for; checked before the answer begins, because it has no way back then."""
    try:
        ids = _Ids.model_validate_json(body).ids
    except ValidationError as error:
        raise ApiError(422, "TM-STATE", "'get_snapshots' takes `ids`, a list of names and identifiers.") from error
    if any("\0" in part for pair in ids for part in pair):
        raise ApiError(422, "TM-STATE", "'get_snapshots' takes no NUL characters.")
    return ids


def _snapshots(access: Access, ids: Sequence[Sequence[str]]) -> Iterator[bytes]:
    with access.database.transaction(access.project) as transaction:
        yield from stream_snapshots(transaction, ids)
