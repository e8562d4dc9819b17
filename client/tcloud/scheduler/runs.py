"""What the end of a run means to SQLMesh, and what SQLMesh says when nothing was due."""

from collections.abc import Collection

from sqlmesh.core.console import Console
from sqlmesh.core.snapshot import Snapshot
from sqlmesh.core.snapshot.definition import get_next_model_interval_start
from sqlmesh.utils import CompletionStatus
from sqlmesh.utils.date import format_tz_datetime
from sqlmesh.utils.errors import SQLMeshError

from tcloud.api.events import End

__all__ = ["completion_of", "log_nothing_to_do"]


def completion_of(run_id: str, end: End) -> CompletionStatus:
    """SQLMesh's word for how a run ended.

    Raises:
        SQLMeshError: If the run was stopped, or failed before it evaluated anything.
    """
    match end.status:
        case "success":
            return CompletionStatus.SUCCESS
        case "nothing_to_do" | "skipped":
            return CompletionStatus.NOTHING_TO_DO
        case "failed":
            return CompletionStatus.FAILURE
        case status:
            raise SQLMeshError(f"Run '{run_id}' was stopped ({status}): {end.error_message or 'it was cancelled'}")


def log_nothing_to_do(console: Console, snapshots: Collection[Snapshot]) -> None:
    """Says so in the words of `sqlmesh run`, with the time at which the next run will be ready."""
    next_ready = get_next_model_interval_start(snapshots)
    message = "No models are ready to run. Please wait until a model `cron` interval has elapsed."
    if next_ready:
        utc = format_tz_datetime(next_ready)
        local = format_tz_datetime(next_ready, use_local_timezone=True)
        message += f"\n\nNext run will be ready at {local if local == utc else f'{local} ({utc})'}."
    console.log_status_update(message)
