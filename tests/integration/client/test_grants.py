"""Grants at the command line: given, listed, and what somebody is told who lacks one."""

import json

import pytest

from tcloud.main import run
from tests.integration.client.conftest import CATALOG, Machine


def test_a_plan_that_is_not_granted(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tcloud(role: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("TCLOUD_TOKEN", role)
        code = run(arguments)
        told = capsys.readouterr()
        return code, told.out, told.err

    for name, value in machine.environment().items():
        monkeypatch.setenv(name, value)
    only_totals = ("--action", "plan", "--environment", "prod", "--model", "demo.totals")
    code, out, _ = tcloud("admin", "grants", "add", "ada", *only_totals, "-o", "json")
    assert code == 0
    given = json.loads(out)
    assert (given["actions"], given["environments"], given["models"]) == (["plan"], ["prod"], ["demo.totals"])
    code, out, _ = tcloud("ada", "grants", "mine", "-o", "json")
    assert [grant["role"] for grant in json.loads(out)] == ["viewer", None]
    assert tcloud("ada", "grants", "list")[0] == 3
    assert tcloud("admin", "grants", "add", "ada")[0] == 2
    code, _, err = tcloud("admin", "grants", "add", "bob", "viewer")
    assert (code, "it knows ada, admin" in err) == (2, True)

    refused = machine.tcloud("sqlmesh", "plan", "--auto-apply", "--no-prompts", "--skip-tests", role="ada")
    assert refused.returncode == 3, refused.stdout + refused.stderr
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("Error: ")]
    assert f"the plan adds {CATALOG}.demo.orders. " in line
    assert "tcloud grants add ada --action plan --environment prod" in line

    assert tcloud("ada", "audit", "list")[0] == 3
    code, out, _ = tcloud("admin", "audit", "list", "--denied", "--action", "plan.submit", "-o", "json")
    (entry,) = json.loads(out)
    assert (entry["actor"], entry["subject"], entry["address"]) == ("ada", "prod", "127.0.0.1")
    assert entry["details"]["adds"] == [f'"{CATALOG}"."demo"."orders"']
    assert tcloud("developer", "plans", "list", "-o", "json")[1].strip() == "[]"
    assert tcloud("admin", "grants", "remove", given["grant_id"])[0] == 0
