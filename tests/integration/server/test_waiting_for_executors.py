"""Without an executor of the right kind whoever follows a plan or a run is told what it waits for."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from server.projects import Role
from stack.processes import tcloud_command
from tcloud.wire.executors import ExecutorKind
from tests.eventually import eventually
from tests.integration.server.conftest import RunningServer, report_gateway
from tests.integration.server.states import promoted, snapshot_of
from tests.integration.server.test_plans import ORIGIN, plan_json


@contextmanager
def following(server: RunningServer, folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    output = folder / "output"
    variables = {"TCLOUD_URL": server.url, "TCLOUD_TOKEN": f"{Role.DEVELOPER}-token", "TCLOUD_HOME": str(folder)}
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*tcloud_command(), *arguments],
            env={**os.environ, **variables, "XDG_CACHE_HOME": str(folder), "COLUMNS": "300"},
            cwd=folder,
            stdout=file,
            stderr=file,
        )
    try:
        yield process, output
    finally:
        process.kill()
        process.wait()


def test_a_run_that_is_not_followed(scheduled: RunningServer, tmp_path: Path) -> None:
    with scheduled.client(Role.EXECUTOR) as executor:
        promoted(executor, [snapshot_of("trips")], "plan-1")
        with following(scheduled, tmp_path, "runs", "start", "--no-follow") as (process, output):
            assert process.wait(60) == 0
            assert "Waiting for an executor of kind 'run': none is alive." in output.read_text()
            assert "Waiting for a control worker: " in output.read_text()
            assert "scheduled" in output.read_text()


@pytest.mark.parametrize("silent", [False, True])
def test_a_run_waits_for_a_run_executor(scheduled: RunningServer, tmp_path: Path, silent: bool) -> None:
    with scheduled.client(Role.EXECUTOR) as executor, scheduled.client(Role.DEVELOPER) as developer:
        report_gateway(executor)
        promoted(executor, [snapshot_of("trips")], "plan-1")
        with following(scheduled, tmp_path, "runs", "start", *(["-o", "json"] if silent else [])) as (process, output):
            eventually(lambda: "Waiting for an executor of kind 'run': none is alive." in output.read_text(), 60)
            assert "tcloud executor run" in output.read_text()
            report_gateway(executor, kind=ExecutorKind.RUN)
            eventually(lambda: "An executor of kind 'run' is up." in output.read_text(), 60)
            (run,) = developer.get("runs").json()
            developer.post(f"runs/{run['run_id']}/cancel").raise_for_status()
            assert process.wait(60) == 1
            assert "Cancelled by developer" in output.read_text()


def test_a_plan_waits_for_an_apply_executor(scheduled: RunningServer, tmp_path: Path) -> None:
    with scheduled.client(Role.EXECUTOR) as executor, scheduled.client(Role.DEVELOPER) as developer:
        report_gateway(executor, kind=ExecutorKind.RUN)
        # Temporal has the plan; that no control worker has is told as well.
        assert developer.post("plans", json=plan_json("plan-1"), params=ORIGIN).status_code == 201
        with following(scheduled, tmp_path, "plans", "attach", "plan-1") as (process, output):
            eventually(lambda: "Waiting for an executor of kind 'apply': none is alive." in output.read_text(), 60)
            assert "Waiting for the control worker (`tcloud worker`)" in output.read_text()
            developer.post("plans/plan-1/cancel").raise_for_status()
            assert process.wait(60) == 1
            assert "Cancelled by developer" in output.read_text()
