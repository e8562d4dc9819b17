"""The command itself: fast, one line for an error, and the right exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tcloud.main import run

HEAVY = ("sqlmesh", "sqlglot", "pydantic", "httpx", "rich", "fastapi", "temporalio", "server", "stack", "workers")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from tcloud.main import run; code = run(['--help']); "
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "[]"
    for command in ("sqlmesh", "plans", "runs", "environments", "schedules", "executors", "project"):
        assert command in result.stdout
    assert "quickstart" in result.stdout


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    url = "http://127.0.0.1:1/sqlmesh/acme/demo"
    monkeypatch.setenv("TCLOUD_URL", url)
    assert run(["plans", "list"]) == 4
    error = capsys.readouterr().err
    assert error == (
        f"Error: Cannot reach {url}: connection refused. Check TCLOUD_URL and that the server runs "
        "(`tcloud dev` starts one here).\n"
    )


def test_debug_shows_where(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TCLOUD_URL", "http://127.0.0.1:1/sqlmesh/acme/demo")
    assert run(["--debug", "plans", "list"]) == 4
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["plans", "lst"], ["nonsense"], ["runs", "list", "--limit", "0"], ["plans", "list"], ["plans", "show"]],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert capsys.readouterr().err


def test_an_unknown_project(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--project", "nowhere", "runs", "list"]) == 2
    assert "tcloud.yaml has no project 'nowhere' (known: none)" in capsys.readouterr().err


def test_projects_are_added_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = "https://tempomesh.test/sqlmesh/acme/one"
    assert run(["project", "add", "one", "--url", url + "/", "--gateway", "warehouse", "--token", "secret"]) == 0
    assert run(["project", "add", "two", "--url", "https://tempomesh.test/sqlmesh/acme/two", "--default"]) == 0
    capsys.readouterr()
    assert run(["project", "list", "-o", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(p["name"], p["url"], p["gateway"], p["default"]) for p in listed] == [
        ("one", url, "warehouse", False),
        ("two", "https://tempomesh.test/sqlmesh/acme/two", None, True),
    ]
    file = tmp_path / "home" / "tcloud.yaml"
    assert file.stat().st_mode & 0o777 == 0o600


def test_adding_a_project_keeps_what_is_in_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    file = folder / "tcloud.yaml"
    file.write_text("# ours\nprojects:\n  one: {url: 'https://h/sqlmesh/a/one'}\n")
    assert run(["project", "add", "two", "--url", "https://h/sqlmesh/a/two"]) == 0
    assert "# ours" in file.read_text()
    assert run(["project", "add", "bad", "--url", "h/two"]) == 2
    assert "bad" not in file.read_text()
