"""Recorded histories replay: workflow code that has run once decides the same again.

The histories were recorded by `record.py`. A change that breaks one of a release breaks workflows of that release that
are in flight: it has to be patched (`workflow.patched`), not re-recorded.
"""

import asyncio
import base64
import json
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.worker import Replayer

from workflows.codec import data_converter
from workflows.environment import EnvironmentWorkflow
from workflows.maintenance import MaintenanceWorkflow
from workflows.plan import PlanWorkflow
from workflows.run import RunWorkflow

FOLDER = Path(__file__).parent / "histories"
HISTORIES = sorted(path for path in FOLDER.glob("*.json") if path.stem != "keys")


def converter() -> DataConverter:
    """With the key of the stack that was thrown away after the recording."""
    keys = json.loads((FOLDER / "keys.json").read_text())
    return data_converter({key_id: base64.b64decode(key) for key_id, key in keys.items()})


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_a_recorded_history_replays(path: Path) -> None:
    recorded = json.loads(path.read_text())
    replayer = Replayer(
        workflows=[EnvironmentWorkflow, MaintenanceWorkflow, PlanWorkflow, RunWorkflow], data_converter=converter()
    )

    asyncio.run(replayer.replay_workflow(WorkflowHistory.from_json(recorded["workflow_id"], recorded["history"])))
