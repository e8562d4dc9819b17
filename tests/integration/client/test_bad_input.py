"""What a person can do wrong on their own machine: one line, the right exit code, nothing half done."""

import os
import subprocess
from pathlib import Path

import pytest

from stack.ports import free_ports
from stack.processes import tcloud_command
from tests.fixtures.preloaded import run_tcloud
from tests.integration.client.conftest import Machine
from tests.integration.client.strangers import stranger

HTML = {"Content-Type": "text/html"}
STRANGERS = [
    (200, HTML, b"<!doctype html><html>It works</html>", "said 200 OK"),
    (404, HTML, b"<html>nothing here</html>", "said 404 Not Found"),
    (501, HTML, b"", "said 501"),
    (302, {"Location": "https://login.test/"}, b"", "points to https://login.test/"),
]
PLAN = ("sqlmesh", "plan", "--no-prompts")
COMMANDS = [("plans", "list"), ("runs", "start")]


def complaint(result: subprocess.CompletedProcess[str], exit_code: int) -> str:
    """The one line that a command ended with."""
    assert result.returncode == exit_code, result.stdout + result.stderr
    # What SQLMesh itself refuses, its command line says on stdout.
    (line,) = (result.stderr or result.stdout).strip().splitlines()
    assert line.startswith("Error: ")
    return line


def at(machine: Machine, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs `tcloud` in the project's folder with some variables set otherwise."""
    environment = {**os.environ, **machine.environment(), **variables}
    return run_tcloud(*arguments, environment=environment, folder=machine.folder / "project", timeout=120)


def started_at(machine: Machine, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The same with a `tcloud` that imports all that it needs with these variables."""
    return subprocess.run(
        [*tcloud_command(), *arguments],
        env={**os.environ, **machine.environment(), **variables},
        cwd=machine.folder / "project",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize(("status", "headers", "body", "says"), STRANGERS)
def test_somebody_elses_server(machine: Machine, status: int, headers: dict[str, str], body: bytes, says: str) -> None:
    with stranger(status, headers, body) as address:
        url = f"{address}/sqlmesh/acme/demo"
        for command in (*COMMANDS, PLAN) if status == 200 else COMMANDS:
            line = complaint(at(machine, *command, TCLOUD_URL=url), 2)
            assert f"No Tempomesh server answers at {url}" in line
            assert says in line


def test_no_server(machine: Machine) -> None:
    (port,) = free_ports(1)
    for command in (*COMMANDS, PLAN):
        line = complaint(at(machine, *command, TCLOUD_URL=f"http://127.0.0.1:{port}/sqlmesh/acme/demo"), 4)
        assert "connection refused" in line
        assert "tcloud dev" in line


def test_an_unknown_project(machine: Machine) -> None:
    url = machine.server.url.rsplit("/", 1)[0] + "/nosuch"
    for command in COMMANDS:
        line = complaint(at(machine, *command, TCLOUD_URL=url), 2)
        assert "no project 'acme/nosuch'" in line


def test_without_a_token_and_with_a_wrong_one(machine: Machine) -> None:
    for command in COMMANDS:
        assert "set TCLOUD_TOKEN" in complaint(at(machine, *command, TCLOUD_TOKEN=""), 3)
        assert "check TCLOUD_TOKEN" in complaint(at(machine, *command, TCLOUD_TOKEN="wrong"), 3)


@pytest.mark.parametrize(
    ("name", "version", "says"),
    [
        ("behind", "0.1.0", "Run `pip install sqlmesh=="),
        ("ahead", "99.0.0", "Run `pip install sqlmesh=="),
        ("beside", "0.236.999", "The plan was made with SQLMesh 0.236.999"),
    ],
)
def test_a_planner_with_another_sqlmesh(machine: Machine, name: str, version: str, says: str) -> None:
    (machine.folder / "sitecustomize.py").write_text(
        f"import sqlmesh, sqlmesh._version\nsqlmesh.__version__ = sqlmesh._version.__version__ = {version!r}\n"
    )
    machine.server.beat("warehouse")
    result = started_at(machine, "sqlmesh", "plan", "--auto-apply", "--no-prompts", PYTHONPATH=str(machine.folder))
    assert result.returncode == 1, result.stdout + result.stderr
    said = result.stdout + result.stderr
    assert says in said
    assert "pip install sqlmesh==" in said
    assert "sqlmesh migrate" not in said
    assert machine.tcloud("plans", "list", "-o", "json").stdout.strip() == "[]"


def test_broken_project_files(machine: Machine) -> None:
    project = machine.folder / "project"
    machine.server.beat("warehouse")
    for content, says in (
        ("gateways: [", "config.yaml is not valid YAML"),
        ("gateways: {warehouse: {scheduler: {type: cloudy}}}", "Unknown scheduler type 'cloudy'"),
    ):
        (project / "config.yaml").write_text(content)
        assert says in complaint(at(machine, "sqlmesh", "plan"), 1)
    (project / "config.yaml").write_text("gateways: {warehouse: {scheduler: {type: cloud}}}\nnonsense: 1\n")
    invalid = at(machine, "sqlmesh", "plan")
    assert (invalid.returncode, "Invalid field 'nonsense'" in invalid.stdout) == (1, True)


def test_broken_tcloud_yaml(machine: Machine) -> None:
    file = machine.folder / "project" / "tcloud.yaml"
    for content, says in (
        (b"projects: [a", "is not valid YAML"),
        (b"\xff\xfe", "is not a text in UTF-8"),
        (b"projects: {a: 5}", "'projects.a' has to be a mapping"),
        (b"nonsense", "it has to begin with `projects:`"),
    ):
        file.write_bytes(content)
        for command in COMMANDS:
            line = complaint(at(machine, *command), 2)
            assert f"{file}" in line
            assert says in line


EXECUTOR: list[tuple[dict[str, str], int, str]] = [
    ({"TCLOUD_URL": ""}, 2, "TCLOUD_URL: "),
    ({"TCLOUD_URL": "http://127.0.0.1:1"}, 2, "is not of the form https://<host>/sqlmesh/<org>/<project>"),
    ({"TCLOUD_TOKEN": ""}, 2, "No token: set TCLOUD_TOKEN"),
    ({"TCLOUD_TOKEN": "wrong"}, 3, "The token is not valid"),
    ({"TCLOUD_TOKEN": "developer"}, 3, "This token is not one of an executor or worker"),
    # Without a gateway it waits for one of the vault; here, where no Temporal is, it comes no further than that.
    ({}, 4, "Temporal at 127.0.0.1:1 cannot be reached"),
    ({"SQLMESH__GATEWAYS__WH__CONNECTION__TYPE": "postgres"}, 2, "The SQLMESH__… variables of this executor: "),
    (
        {
            "SQLMESH__GATEWAYS__WH__CONNECTION__TYPE": "postgres",
            "SQLMESH__GATEWAYS__WH__CONNECTION__HOST": "127.0.0.1",
            "SQLMESH__GATEWAYS__WH__CONNECTION__PORT": "1",
            "SQLMESH__GATEWAYS__WH__CONNECTION__USER": "u",
            "SQLMESH__GATEWAYS__WH__CONNECTION__PASSWORD": "canary",
            "SQLMESH__GATEWAYS__WH__CONNECTION__DATABASE": "d",
        },
        4,
        "The warehouse cannot be reached: gateway 'wh' (postgres): ",
    ),
]


@pytest.mark.parametrize(("variables", "exit_code", "says"), EXECUTOR)
def test_an_executor_that_cannot_start(machine: Machine, variables: dict[str, str], exit_code: int, says: str) -> None:
    result = started_at(machine, "executor", "run", **{"TCLOUD_TOKEN": "executor", **variables})
    assert result.returncode == exit_code, result.stderr
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("Error: ")
    assert says in line
    assert "canary" not in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert machine.server.executors() == []


def test_an_executor_with_another_sqlmesh(machine: Machine, tmp_path: Path) -> None:
    metadata = tmp_path / "other" / "sqlmesh-0.1.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: sqlmesh\nVersion: 0.1.0\n")
    result = started_at(machine, "executor", "run", TCLOUD_TOKEN="executor", PYTHONPATH=str(metadata.parent.parent))
    assert result.returncode == 2
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("Error: This executor has SQLMesh 0.1.0, the server has ")
    assert "run `pip install sqlmesh==" in line
    assert machine.server.executors() == []


def test_a_worker_at_somebody_elses_server(machine: Machine) -> None:
    with stranger(200, HTML, b"<html/>") as address:
        result = started_at(machine, "worker", TCLOUD_URL=f"{address}/sqlmesh/acme/demo", TCLOUD_TOKEN="worker")
    assert result.returncode == 2
    assert "No Tempomesh server answers at " in result.stderr.strip().splitlines()[-1]


def test_a_run_on_an_environment_that_is_not_there(machine: Machine) -> None:
    for command in (("runs", "start", "--environment", "nosuch"), ("environments", "show", "nosuch")):
        assert "Environment 'nosuch' was not found." in complaint(machine.tcloud(*command), 2)
    for group, noun in (("plans", "plan"), ("runs", "run")):
        for verb in ("show", "cancel", "attach"):
            line = complaint(machine.tcloud(group, verb, "nosuch"), 2)
            assert f"There is no {noun} 'nosuch'" in line
