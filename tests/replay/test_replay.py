"""Recorded histories replay: workflow code that has run once decides the same again.

The histories were recorded on a `tcloud dev` that planned and ran the example. A change that breaks one of them breaks
workflows in flight of that release: it has to be patched (`workflow.patched`), not re-recorded.
"""

import asyncio
import base64
import json
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from workflows.codec import data_converter
from workflows.environment import EnvironmentWorkflow
from workflows.plan import PlanWorkflow
from workflows.run import RunWorkflow

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))
KEYS = {"stack": base64.b64decode("ZQABdnUPAR6wTeZNo0AoZ3pdSxDtvM/X6jX4ROTOYss=")}
"""Of the stack that was thrown away after the recording."""


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_a_recorded_history_replays(path: Path) -> None:
    recorded = json.loads(path.read_text())
    replayer = Replayer(workflows=[EnvironmentWorkflow, PlanWorkflow, RunWorkflow], data_converter=data_converter(KEYS))

    asyncio.run(replayer.replay_workflow(WorkflowHistory.from_json(recorded["workflow_id"], recorded["history"])))
