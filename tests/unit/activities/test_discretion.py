"""What an executor that keeps texts at home says of its work: nothing that it was told by a warehouse."""

import pytest

from activities.discretion import discreet_crash, discreet_events, discreet_failure, discreet_finish
from envmanager.errors import RunnerCrashedError, TaskFailedError
from tcloud.wire.executions import ConsoleEvent, FinishUnit
from tcloud.wire.statuses import Status
from tempomesh_runner.console import RELAYED

CANARY = "canary-4711"
CAUSE = {"class": "NodeAuditsErrors", "message": CANARY, "audits": [{"name": "a", "query": CANARY}]}
FAILED = {"kind": "evaluate", "name": '"m"', "interval": [1, 2], "batch_index": 0, "cause": CAUSE, "message": CANARY}


def test_the_end_of_a_unit_tells_its_class_and_its_model() -> None:
    finish = FinishUnit(
        evaluation_id="e",
        fence=1,
        status=Status.FAILED,
        error_message=f"duplicate key value ({CANARY})",
        cause=CAUSE,
        log=f"Executing SQL: SELECT '{CANARY}'",
        events=[
            ConsoleEvent(type="log_failed_models", payload={"failures": [FAILED]}),
            ConsoleEvent(type="log_error", payload={"message": CANARY}),
            ConsoleEvent(type="update_snapshot_evaluation_progress", payload={"num_audits_failed": 1}),
        ],
    )
    told = discreet_finish(finish)
    assert CANARY not in told.model_dump_json()
    assert told.error_message is not None
    assert told.error_message.startswith("NodeAuditsErrors: ")
    assert [event.type for event in told.events] == ["log_failed_models", "update_snapshot_evaluation_progress"]
    assert told.events[0].payload["failures"][0]["name"] == '"m"'


def test_a_task_tells_how_it_ended() -> None:
    failed = discreet_failure(TaskFailedError(CANARY, "PlanError", retryable=True, cause=CAUSE))
    assert (failed.error_type, failed.retryable) == ("PlanError", True)
    assert CANARY not in f"{failed} {failed.cause}"
    assert CANARY not in str(discreet_crash(RunnerCrashedError("It was killed.", CANARY)))


@pytest.mark.parametrize("kind", [kind for kind in RELAYED if kind.startswith("log_") and "models" not in kind])
def test_whatever_has_a_text_stays_at_home(kind: str) -> None:
    assert discreet_events([ConsoleEvent(type=kind, payload={"message": CANARY})]) == []
