"""`tcloud runs` over records: a run that a plan stopped, listings, and what is not there."""

import json

import httpx
import pytest

from tcloud.api.client import Api
from tcloud.commands.watching import wait_for_run
from tcloud.errors import WorkFailedError
from tests.integration.client.conftest import Machine

REASON = "Plan p2 changed environment 'prod'."


@pytest.fixture
def stopped(machine: Machine) -> Machine:
    """A run by hand, `prod-1`, that ended because a plan changed its environment."""

    def post(role: str, path: str, body: dict[str, object]) -> None:
        headers = {"Authorization": f"Bearer {role}"}
        httpx.post(f"{machine.server.url}/api/{path}", json=body, headers=headers).raise_for_status()

    post("executor", "runs/prod-1/begin", {"environment": "prod", "trigger": "manual"})
    post("worker", "runs/prod-1/status", {"status": "preempted", "error_message": REASON})
    return machine


def test_the_exit_code_of_a_run_that_a_plan_stopped(stopped: Machine) -> None:
    with Api(stopped.server.url, "developer") as api:
        for asked, code in ((None, 1), (17, 17)):
            with pytest.raises(WorkFailedError, match="Plan p2 changed") as raised:
                wait_for_run(api, "prod-1", asked)
            assert raised.value.exit_code == code


def test_listed_shown_and_logged(stopped: Machine) -> None:
    (listed,) = json.loads(stopped.tcloud("runs", "list", "--status", "preempted", "-o", "json").stdout)
    assert (listed["run_id"], listed["trigger"], listed["error_message"]) == ("prod-1", "manual", REASON)
    assert stopped.tcloud("runs", "list", "--status", "failed", "-o", "json").stdout.strip() == "[]"
    shown = stopped.tcloud("runs", "show", "prod-1").stdout.splitlines()
    assert [line.split()[0] for line in shown][:3] == ["run_id", "environment", "status"]
    assert shown[-1].split() == ["evaluations", "none"]
    assert json.loads(stopped.tcloud("runs", "show", "prod-1", "-o", "json").stdout) == {**listed, "evaluations": []}
    logs = stopped.tcloud("runs", "logs", "prod-1")
    assert (logs.returncode, logs.stdout, logs.stderr) == (0, "", "Nothing was logged.\n")
    for arguments, says in (
        (("nosuch",), "There is no run 'nosuch'"),
        (("prod-1", "--evaluation", "e1"), "has no such evaluation 'e1'"),
        (("prod-1", "--model", "demo.orders"), "has no evaluation of model 'demo.orders'"),
    ):
        result = stopped.tcloud("runs", "logs", *arguments)
        assert (result.returncode, result.stdout) == (2, "")
        assert says in result.stderr
