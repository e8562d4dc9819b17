"""Pausing and resuming: the pause, the audit log, and what the environment's workflow is told, in one transaction."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import uuid4

import structlog
from sqlalchemy import ColumnElement, Row, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from server.audit_log import BY_ITSELF, add_entry
from server.database import Transaction
from server.environments import planned_with, summary_of
from server.errors import ApiError
from server.pause_notices import leave_notice
from server.pauses import IN_FORCE, as_pause, leave_out, pause_of, pauses_in
from server.runs import create_catch_up_run
from server.scheduling import ScheduledEnvironments
from server.schema import pauses
from tcloud.wire.pauses import Pause
from tempomesh_runner.selection import ModelSelector, NeedsProjectError, SelectionError
from workflows.payloads import PauseRef, PausesStanding, ResumeRef

__all__ = ["Resumed", "end_pause", "expand_again", "pause", "resume", "selected_models", "settle"]

_log = structlog.get_logger(__name__)
_LONGEST = timedelta(days=36_500)
_EARLY = timedelta(seconds=1)
"""A workflow whose timer has gone off is believed, even if this clock is a little slow."""


class Resumed(NamedTuple):
    """A pause that has ended."""

    pause: Pause
    run_id: str | None
    """The run that evaluates what is due."""
    no_run: str | None
    """Why there is none."""


def pause(
    transaction: Transaction,
    environment: str,
    model: str | None,
    *,
    reason: str,
    until: datetime | None,
    lasts: timedelta | None,
    by: str,
) -> tuple[Pause, str]:
    """Pauses an environment, or models of it: no unit of them starts in a run once this is committed.

    The same pause again is one pause; with another reason or end it gets those.

    Returns:
        The pause, and `paused`, `already_paused` or `changed`.

    Raises:
        ApiError: 404 if there is no such environment, 422 if `model` means nothing in it or the end makes no sense.
    """
    _living(transaction, environment)
    until = _end(until, lasts)
    model = model.strip() if model is not None else None
    left_out = _expand(transaction, environment, model) if model is not None else {}
    # What else has ended is left to the workflow: a run is to catch up with it.
    for over in _expired(transaction, environment, timedelta(), _is_of(model)):
        _audit_end(transaction, over, BY_ITSELF, None)
    values = {"reason": reason.strip(), "until": until, "left_out": left_out}
    new = transaction.connection.execute(
        insert(pauses)
        .values(
            project=transaction.project.namespace,
            pause_id=uuid4().hex[:12],
            environment=environment,
            model=model,
            created_by=by,
            **values,
        )
        .on_conflict_do_nothing()
        .returning(pauses)
    ).first()
    if new is not None:
        return _paused(transaction, new, by, "paused")
    existing = transaction.connection.execute(
        select(pauses)
        .where(
            pauses.c.project == transaction.project.namespace,
            pauses.c.environment == environment,
            _is_of(model),
        )
        .with_for_update()
    ).one()
    if (existing.reason, existing.until) == (values["reason"], until):
        return as_pause(dict(existing._mapping)), "already_paused"
    changed = transaction.connection.execute(
        update(pauses)
        .where(pauses.c.project == transaction.project.namespace, pauses.c.pause_id == existing.pause_id)
        .values(**values)
        .returning(pauses)
    ).one()
    return _paused(transaction, changed, by, "changed")


def selected_models(transaction: Transaction, environment: str, selection: str) -> list[str]:
    """The models that a pause names, without those that are only downstream of them.

    Raises:
        ApiError: 404 if there is no such environment, 422 if the selection means nothing in it.
    """
    _living(transaction, environment)
    return [name for name, of in _expand(transaction, environment, selection.strip()).items() if name == of]


def resume(
    transaction: Transaction, environment: str, scheduled: ScheduledEnvironments, *, catch_up: bool, by: str
) -> Resumed:
    """Ends the pause of a whole environment.

    Raises:
        ApiError: 404 if there is no such environment, 409 if it is not paused.
    """
    summary_of(transaction, environment)
    found = pause_of(transaction, environment)
    if found is None:
        models = len(pauses_in(transaction, environment))
        hint = f" Models of it are: `tcloud pauses list --environment {environment}`." if models else ""
        raise ApiError(409, "TM-PAUSE", f"Environment '{environment}' is not paused.{hint}")
    return end_pause(transaction, found.pause_id, scheduled, catch_up=catch_up, by=by)


def end_pause(
    transaction: Transaction, pause_id: str, scheduled: ScheduledEnvironments, *, catch_up: bool, by: str
) -> Resumed:
    """Ends a pause, and records the run that evaluates what is due.

    Raises:
        ApiError: 404 if there is no such pause.
    """
    row = transaction.connection.execute(
        delete(pauses)
        .where(pauses.c.project == transaction.project.namespace, pauses.c.pause_id == pause_id, IN_FORCE)
        .returning(pauses)
    ).first()
    if row is None:
        raise ApiError(
            404,
            "TM-PAUSE",
            f"There is no pause '{pause_id}' in {transaction.project.namespace}, or it has ended: "
            "see `tcloud pauses list`.",
        )
    ended = as_pause(dict(row._mapping))
    run_id: str | None = None
    no_run = _why_no_run(transaction, ended.environment, scheduled)
    if no_run is None and catch_up:
        run_id = _run_id(ended.environment)
        create_catch_up_run(transaction, ended.environment, run_id, by)
    _audit_end(transaction, ended, by, run_id)
    leave_notice(
        transaction,
        ended.environment,
        "resume",
        ResumeRef(environment=ended.environment, pause_id=pause_id, resumed_by=by, run_id=run_id),
    )
    return Resumed(ended, run_id, None if run_id else no_run or "The next tick evaluates what is due.")


def settle(transaction: Transaction, environment: str, run_id: str, scheduled: ScheduledEnvironments) -> PausesStanding:
    """Ends the pauses whose time has come, and says which are in force; repeating it is harmless.

    Args:
        transaction: An open transaction.
        environment: The environment whose workflow asks.
        run_id: The id of the run that evaluates what is due, should a pause have ended.
        scheduled: Which environments are scheduled.
    """
    started = None
    ended = _expired(transaction, environment, _EARLY)
    if ended and _why_no_run(transaction, environment, scheduled) is None:
        create_catch_up_run(transaction, environment, run_id, ended[0].created_by)
        started = run_id
    for found in ended:
        _audit_end(transaction, found, BY_ITSELF, started)
    in_force = [_reference(found) for found in pauses_in(transaction, environment)]
    return PausesStanding(pauses=in_force, run_id=started)


def expand_again(transaction: Transaction, environment: str) -> None:
    """Finds out what the pauses of models mean now that a plan has changed their environment."""
    for found in pauses_in(transaction, environment):
        if found.model is None:
            continue
        try:
            left_out = _expand(transaction, environment, found.model, may_be_empty=True)
        except ApiError as error:
            # It could be read when the pause was made; a plan does not fail because of it.
            _log.warning("pause_not_expanded", pause_id=found.pause_id, reason=error.message)
            continue
        leave_out(transaction, found.pause_id, left_out)


def _paused(transaction: Transaction, row: Row[tuple[object, ...]], by: str, outcome: str) -> tuple[Pause, str]:
    found = as_pause(dict(row._mapping))
    add_entry(
        transaction,
        by,
        "environment.pause" if found.model is None else "model.pause",
        found.environment,
        {**_details(found), "reason": found.reason, "changed": outcome == "changed"},
    )
    leave_notice(transaction, found.environment, "pause", _reference(found))
    return found, outcome


def _is_of(model: str | None) -> ColumnElement[bool]:
    return func.coalesce(pauses.c.model, "") == (model or "")


def _expired(
    transaction: Transaction, environment: str, early: timedelta, *conditions: ColumnElement[bool]
) -> list[Pause]:
    """Removes the pauses whose time has come, of those that meet the conditions, and returns them."""
    rows = transaction.connection.execute(
        delete(pauses)
        .where(
            pauses.c.project == transaction.project.namespace,
            pauses.c.environment == environment,
            pauses.c.until <= func.now() + early,
            *conditions,
        )
        .returning(pauses)
    ).all()
    return [as_pause(dict(row._mapping)) for row in rows]


def _audit_end(transaction: Transaction, ended: Pause, by: str, run_id: str | None) -> None:
    action = "environment.resume" if ended.model is None else "model.resume"
    add_entry(transaction, by, action, ended.environment, {**_details(ended), "run_id": run_id})


def _details(found: Pause) -> dict[str, object]:
    until = found.until.isoformat() if found.until is not None else None
    return {"pause_id": found.pause_id, "model": found.model, "until": until}


def _why_no_run(transaction: Transaction, environment: str, scheduled: ScheduledEnvironments) -> str | None:
    """Why nothing runs by itself there now that a pause has ended; None if it does."""
    if not scheduled.of_all(transaction)[environment].is_scheduled:
        return f"Environment '{environment}' is not scheduled: it runs when somebody says so."
    still = pause_of(transaction, environment)
    return None if still is None else f"Environment '{environment}' is {still.explained}"


def _expand(
    transaction: Transaction, environment: str, selection: str, *, may_be_empty: bool = False
) -> dict[str, str]:
    """What a selection means, and all that is downstream of it."""
    stored = transaction.state.get_environment(environment)
    snapshots = transaction.state.get_snapshots(stored.snapshots).values() if stored is not None else []
    catalog = planned_with(transaction, summary_of(transaction, environment)).get("default_catalog")
    selector = ModelSelector(list(snapshots), transaction.state, catalog)
    try:
        found = selector.expand(selection)
    except NeedsProjectError as error:
        message = f"'{selection}' needs the project's files, which the server has not: name the models."
        raise ApiError(422, "TM-REQUEST", message) from error
    except SelectionError as error:
        raise ApiError(422, "TM-REQUEST", f"'{selection}' cannot be read: {error}") from error
    if not found and not may_be_empty:
        raise ApiError(
            404,
            "TM-MODEL",
            f"'{selection}' matches no model of environment '{environment}'. Write a model's name as in "
            "`schema.model`; `*`, `tag:name`, `+model` and `model+` are understood.",
        )
    return selector.with_downstream(found)


def _living(transaction: Transaction, environment: str) -> None:
    if summary_of(transaction, environment).expired:
        raise ApiError(409, "TM-ENVIRONMENT", f"Environment '{environment}' has expired; plan it anew first.")


def _end(until: datetime | None, lasts: timedelta | None) -> datetime | None:
    if until is not None and lasts is not None:
        raise ApiError(422, "TM-REQUEST", "until, lasts: a pause has one end; give one of the two.")
    now = datetime.now(UTC)
    if lasts is not None:
        until = now + min(lasts, _LONGEST)
    if until is None:
        return None
    until = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
    if until <= now:
        raise ApiError(422, "TM-REQUEST", f"until: {until:%Y-%m-%d %H:%M:%S%z} is over already.")
    return until


def _run_id(environment: str) -> str:
    return f"{environment}-resume-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"


def _reference(found: Pause) -> PauseRef:
    return PauseRef.model_validate(found.model_dump(exclude={"models"}))
