"""A connection is read from a file or asked for; nothing that is secret is said again."""

import sys
from io import StringIO
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from tcloud.commands.connecting import (
    ProjectGateways,
    as_text,
    ask_connection,
    check_gateway,
    project_gateways,
    read_connection,
)
from tcloud.errors import InvalidError

CANARY = "canary-of-a-file"
CONFIG = """
gateways:
  Main: {scheduler: {type: cloud}}
  archive: {connection: {type: duckdb}}
model_defaults: {dialect: postgres}
"""


def asked(kind: str | None, answers: str) -> tuple[dict[str, Any], str]:
    """The connection that answers make, and what a terminal shows meanwhile."""
    found: dict[str, Any] = {}

    @click.command()
    def ask() -> None:
        found.update(ask_connection(kind))

    result = CliRunner().invoke(ask, input=answers, catch_exceptions=False)
    return found, result.output


def test_what_is_asked_is_what_sqlmesh_requires_and_secrets_are_not_shown() -> None:
    # host, user, password, port, database; then one that is not enough, one that is unknown, and one more.
    answers = f"db\nada\n{CANARY}\nmany\nd\n\n?\nport\n5432\nkeepalives_idle\n30\n\n"
    found, shown = asked("postgres", answers)
    assert found == {
        "type": "postgres",
        "host": "db",
        "user": "ada",
        "password": CANARY,
        "port": "5432",
        "database": "d",
        "keepalives_idle": "30",
    }
    assert CANARY not in shown
    assert "Not complete: port: Input should be a valid integer" in shown
    assert "There are " in shown
    assert "application_name" in shown
    with pytest.raises(InvalidError, match="no connection of type 'oracle'"):
        asked("oracle", "")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is empty, or not valid YAML"),
        (f"type: postgres\npassword: '{CANARY}\n", "is not valid YAML at line"),
        (f"type: postgres\nport: {CANARY}\nhost: h\nuser: u\npassword: p\ndatabase: d\n", "port: Input should be"),
        (f"- {CANARY}\n", "It is no mapping"),
        (f"connection: {{type: postgres, password: {CANARY}}}\n", "`connection` is a gateway's"),
        (f"type: duckdb\nstate_schema: {CANARY}\n", "`state_schema` is a gateway's"),
        (f"type: duckdb\ntoken: {{{{ nothing('{CANARY}') }}}}\n", "cannot be rendered as a template"),
    ],
)
def test_a_file_that_is_no_connection(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "connection.yaml"
    file.write_text(content)
    with pytest.raises(InvalidError) as refused:
        read_connection(file)
    assert says in str(refused.value)
    assert str(file) in str(refused.value)
    assert CANARY not in str(refused.value)


def test_a_connection_from_standard_input_with_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_A_TEST", CANARY)
    monkeypatch.setattr(
        sys, "stdin", StringIO("type: duckdb\ntoken: {{ env_var('OF_A_TEST') }}\nconnector_config: {a: 1}")
    )
    assert read_connection(Path("-")) == {"type": "duckdb", "token": CANARY, "connector_config": {"a": 1}}
    with pytest.raises(InvalidError, match="JSON has no form for"):
        as_text({"type": "duckdb", "token": object()})


def test_a_gateway_is_one_of_the_projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert project_gateways([]) is None
    with pytest.raises(InvalidError, match="is not the folder of a SQLMesh project"):
        project_gateways([tmp_path])
    (tmp_path / "config.yaml").write_text(CONFIG)
    known = project_gateways([])
    assert known == project_gateways([tmp_path]) == ProjectGateways(tmp_path, ["main", "archive"])
    check_gateway("MAIN", known)
    with pytest.raises(InvalidError, match=r"has no gateway 'other': its configuration has main, archive\."):
        check_gateway("other", known)
    (tmp_path / "config.yaml").write_text("gateways: {a: {scheduler: {type: cloudy}}}")
    with pytest.raises(InvalidError, match=r"cannot be read: .*cloudy"):
        project_gateways([])
