"""Runs: started by hand or by a schedule, evaluated by Temporal, recorded here."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Row, delete, exists, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlmesh.utils.date import to_datetime, validate_date_range

from server.database import Transaction
from server.environments import summary_of
from server.errors import ApiError
from server.evaluations import evaluations_of
from server.model_names import fully_qualified, recorded
from server.owners import NOTHING_TO_DO, close_owner
from server.pauses import pause_of
from server.permissions import ANYWHERE, Globs
from server.schema import evaluations, event_streams, events, runs
from tcloud.wire.executions import OwnerKind
from tcloud.wire.runs import Run, RunOptions, RunTrigger
from tcloud.wire.statuses import Status

__all__ = [
    "RunFilter",
    "abort_run",
    "active_runs",
    "begin_run",
    "create_catch_up_run",
    "create_run",
    "forget_run",
    "one_run",
    "run_options",
    "run_without_evaluations",
    "runs_of",
    "set_run_status",
]

_OPEN = (Status.SCHEDULED.value, Status.IN_PROGRESS.value)
_TICK = re.compile(r"(?P<environment>.+)-\d{4}-\d{2}-\d{2}T[0-9:]+Z\Z")
"""The id that Temporal gives a run of a schedule: the environment and the tick."""


@dataclass(frozen=True)
class RunFilter:
    """Which runs to list; None and an empty tuple are all of them."""

    environment: str | None = None
    statuses: tuple[Status, ...] = ()
    trigger: RunTrigger | None = None
    model: str | None = None
    """Only runs with an evaluation of this model."""
    since: datetime | None = None
    """Only runs that started then or later."""
    until: datetime | None = None
    """Only runs that started before."""
    before: str | None = None
    """The id of a run: only older ones."""
    after: str | None = None
    """The id of a run: only newer ones."""
    within: Globs = ANYWHERE
    """Only runs of these environments."""


def create_run(transaction: Transaction, options: RunOptions, created_by: str) -> Run:
    """Records a run that is about to be started by hand.

    Raises:
        ApiError: 404 if there is no such environment, 409 if it is paused and the options do not ignore that, 422 if a
            time in the options is none that SQLMesh understands.
    """
    _check_times(options)
    summary_of(transaction, options.environment)
    paused = None if options.ignore_pause else pause_of(transaction, options.environment)
    if paused is not None:
        raise ApiError(
            409,
            "TM-PAUSED",
            f"Environment '{options.environment}' is {paused.explained} Nothing was started: resume it with "
            f"`tcloud environments resume {options.environment}`, or give --ignore-pause if you may.",
        )
    run_id = f"{options.environment}-manual-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
    transaction.connection.execute(_scheduled(transaction, run_id, RunTrigger.MANUAL, options, created_by))
    return one_run(transaction, run_id)


def create_catch_up_run(transaction: Transaction, environment: str, run_id: str, created_by: str) -> None:
    """Records a run that is about to be started because a pause has ended; repeating it is harmless."""
    statement = _scheduled(transaction, run_id, RunTrigger.RESUME, RunOptions(environment=environment), created_by)
    transaction.connection.execute(statement.on_conflict_do_nothing())


def active_runs(transaction: Transaction, environment: str) -> list[str]:
    """The runs of an environment that are not over, but for those that ignore pauses."""
    return list(
        transaction.connection.execute(
            select(runs.c.run_id).where(
                runs.c.project == transaction.project.namespace,
                runs.c.environment == environment,
                runs.c.status.in_(_OPEN),
                func.coalesce(runs.c.options["ignore_pause"].as_boolean(), False).is_(False),
            )
        ).scalars()
    )


def forget_run(transaction: Transaction, run_id: str) -> None:
    """Removes a run that never began, or had nothing to do, with all that was told of it."""
    project = transaction.project.namespace
    for table, column in (
        (events, events.c.owner_id),
        (event_streams, event_streams.c.owner_id),
        (runs, runs.c.run_id),
    ):
        transaction.connection.execute(delete(table).where(table.c.project == project, column == run_id))


def begin_run(transaction: Transaction, run_id: str, environment: str, trigger: RunTrigger) -> RunOptions:
    """Records that a run is being prepared, and returns its options; a run of a schedule is recorded only now."""
    options = RunOptions(environment=environment)
    opened = {"status": Status.IN_PROGRESS.value, "start_at": datetime.now(UTC)}
    transaction.connection.execute(
        insert(runs)
        .values(
            project=transaction.project.namespace,
            run_id=run_id,
            environment=environment,
            trigger=trigger.value,
            options=options.model_dump(mode="json"),
            **opened,
        )
        .on_conflict_do_update(
            index_elements=["project", "run_id"], set_=opened, where=runs.c.status == Status.SCHEDULED.value
        )
    )
    return run_options(transaction, run_id)


def one_run(transaction: Transaction, run_id: str) -> Run:
    """One run with its evaluations.

    Raises:
        ApiError: 404 if there is none.
    """
    run = _run(_row(transaction, run_id))
    return run.model_copy(
        update={"evaluations": evaluations_of(transaction, OwnerKind.RUN, run_id, is_over=run.status.is_final)}
    )


def runs_of(transaction: Transaction, wanted: RunFilter, limit: int) -> list[Run]:
    """Runs without their evaluations, newest first.

    Raises:
        ApiError: 404 if there is no run `before` or `after`, 422 if `model` is no name of a model.
    """
    project = transaction.project.namespace
    query = select(runs).where(runs.c.project == project)
    if not wanted.within.are_all:
        query = query.where(wanted.within.clause(runs.c.environment))
    if wanted.environment is not None:
        query = query.where(runs.c.environment == wanted.environment)
    if wanted.statuses:
        query = query.where(runs.c.status.in_(status.value for status in wanted.statuses))
    if wanted.trigger is not None:
        query = query.where(runs.c.trigger == wanted.trigger.value)
    if wanted.since is not None:
        query = query.where(runs.c.start_at >= _in_utc(wanted.since))
    if wanted.until is not None:
        query = query.where(runs.c.start_at < _in_utc(wanted.until))
    if wanted.before is not None:
        last = _row(transaction, wanted.before)
        query = query.where(tuple_(runs.c.start_at, runs.c.run_id) < tuple_(last.start_at, last.run_id))
    if wanted.after is not None:
        first = _row(transaction, wanted.after)
        query = query.where(tuple_(runs.c.start_at, runs.c.run_id) > tuple_(first.start_at, first.run_id))
    if wanted.model is not None:
        names = recorded(transaction, fully_qualified(transaction, wanted.model))
        if not names:
            return []
        query = query.where(
            exists().where(
                evaluations.c.project == project,
                evaluations.c.owner_id == runs.c.run_id,
                evaluations.c.model.in_(names),
            )
        )
    rows = transaction.connection.execute(query.order_by(runs.c.start_at.desc(), runs.c.run_id.desc()).limit(limit))
    return [_run(row) for row in rows]


def run_without_evaluations(transaction: Transaction, run_id: str) -> Run:
    """One run by itself.

    Raises:
        ApiError: 404 if there is none.
    """
    return _run(_row(transaction, run_id))


def run_options(transaction: Transaction, run_id: str) -> RunOptions:
    """What a run was started with.

    Raises:
        ApiError: 404 if there is none.
    """
    return RunOptions.model_validate(_row(transaction, run_id).options)


def abort_run(transaction: Transaction, run_id: str, reason: str) -> Run:
    """Records that somebody cancelled a run, also where its workflow has recorded the end of it first."""
    set_run_status(transaction, run_id, Status.ABORTED, reason)
    transaction.connection.execute(
        update(runs)
        .where(
            runs.c.project == transaction.project.namespace,
            runs.c.run_id == run_id,
            runs.c.status == Status.ABORTED.value,
        )
        .values(error_message=reason)
    )
    return one_run(transaction, run_id)


def set_run_status(transaction: Transaction, run_id: str, status: str, error: str | None) -> None:
    """Records how a run stands or ended; a run that is over stays as it is.

    A run of a schedule that found nothing due leaves no record. One that failed before it began gets its record here.

    Raises:
        ApiError: 404 if there is no such run and its id is not one of a schedule, 422 for an unknown status.
    """
    project = transaction.project.namespace
    trigger = transaction.connection.execute(
        select(runs.c.trigger).where(runs.c.project == project, runs.c.run_id == run_id)
    ).scalar()
    is_idle = status == NOTHING_TO_DO
    if is_idle and trigger in (None, RunTrigger.SCHEDULE.value):
        forget_run(transaction, run_id)
        return
    if trigger is None:
        begin_run(transaction, run_id, _environment_of(transaction, run_id), RunTrigger.SCHEDULE)
    final = Status.SUCCESS if is_idle else _status(status)
    transaction.connection.execute(
        update(runs)
        .where(runs.c.project == project, runs.c.run_id == run_id, runs.c.status.in_(_OPEN))
        .values(
            status=final.value,
            end_at=datetime.now(UTC) if final.is_final else None,
            error_message=error,
            nothing_to_do=is_idle,
        )
    )
    if final.is_final:
        close_owner(transaction, run_id)


def _scheduled(
    transaction: Transaction, run_id: str, trigger: RunTrigger, options: RunOptions, created_by: str
) -> Insert:
    return insert(runs).values(
        project=transaction.project.namespace,
        run_id=run_id,
        environment=options.environment,
        status=Status.SCHEDULED.value,
        trigger=trigger.value,
        created_by=created_by,
        options=options.model_dump(mode="json"),
    )


def _check_times(options: RunOptions) -> None:
    for name in ("start", "end", "execution_time"):
        value = getattr(options, name)
        try:
            if value is not None:
                to_datetime(value)
        except (ValueError, OverflowError) as error:
            raise ApiError(
                422,
                "TM-REQUEST",
                f"{name}: '{value}' is not a time that SQLMesh understands, as are '2026-03-01' and '1 day ago'.",
            ) from error
    try:
        validate_date_range(options.start, options.end)
    except ValueError as error:
        raise ApiError(422, "TM-REQUEST", f"{error}.") from error


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _status(text: str) -> Status:
    try:
        return Status(text)
    except ValueError as error:
        known = ", ".join([*Status, NOTHING_TO_DO])
        raise ApiError(422, "TM-STATUS", f"'{text}' is not a status; there are {known}.") from error


def _environment_of(transaction: Transaction, run_id: str) -> str:
    match = _TICK.match(run_id)
    if match is None:
        raise _unknown(transaction, run_id)
    return match["environment"]


def _row(transaction: Transaction, run_id: str) -> Row[tuple[object, ...]]:
    row = transaction.connection.execute(
        select(runs).where(runs.c.project == transaction.project.namespace, runs.c.run_id == run_id)
    ).first()
    if row is None:
        raise _unknown(transaction, run_id)
    return row


def _unknown(transaction: Transaction, run_id: str) -> ApiError:
    return ApiError(
        404, "TM-RUN", f"There is no run '{run_id}' in {transaction.project.namespace}: see `tcloud runs list`."
    )


def _run(row: Row[tuple[object, ...]]) -> Run:
    return Run.model_validate(dict(row._mapping))
