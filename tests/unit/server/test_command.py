"""What is wrong with the settings is said in one line, before anything is started."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from server.command import server

SETTINGS = {
    "TEMPOMESH_SERVER_DATABASE_URL": "postgresql+psycopg2://nobody:secret@127.0.0.1:1/none",
    "TEMPOMESH_SERVER_PROJECTS": json.dumps(["local.main"]),
    "TEMPOMESH_SERVER_CODEC_KEYS": json.dumps({"one": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}),
    "TEMPOMESH_SERVER_SECRET_KEYS": json.dumps({"one": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}),
}


@pytest.mark.parametrize(
    ("changed", "exit_code", "line"),
    [
        ({"TEMPOMESH_SERVER_PRT": "1"}, 2, "TEMPOMESH_SERVER_PRT is not a setting of the server"),
        ({"TEMPOMESH_SERVER_PORT": "many"}, 2, "TEMPOMESH_SERVER_PORT: "),
        ({"TEMPOMESH_SERVER_PROJECTS": '["main"]'}, 2, "'main' is not a project"),
        ({"TEMPOMESH_SERVER_CODEC_KEYS": '{"one": "short"}'}, 2, "key 'one' is not base64 of 32 bytes"),
        ({"TEMPOMESH_SERVER_SECRET_KEYS": "{}"}, 2, "TEMPOMESH_SERVER_SECRET_KEYS: "),
        ({"TEMPOMESH_SERVER_SECRET_KEYS_FILE": "x"}, 2, "SECRET_KEYS and SECRET_KEYS_FILE are both set: keep one"),
        ({}, 4, "PostgreSQL cannot be reached"),
    ],
)
def test_a_server_that_cannot_start_says_why(changed: dict[str, str], exit_code: int, line: str) -> None:
    result = CliRunner().invoke(server, env={**SETTINGS, **changed})
    assert result.exit_code == exit_code
    assert line in result.output
    assert "secret" not in result.output


def test_a_key_is_not_replaced_without_a_database() -> None:
    result = CliRunner().invoke(server, ["rotate-key"], env=SETTINGS)
    assert result.exit_code == 4
    assert "PostgreSQL cannot be reached" in result.output


def test_the_ring_of_keys_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    settings = {**SETTINGS, "TEMPOMESH_SERVER_SECRET_KEYS": None, "TEMPOMESH_SERVER_SECRET_KEYS_FILE": str(file)}
    for content, line in (
        (None, f"TEMPOMESH_SERVER_SECRET_KEYS_FILE: {file} cannot be read: No such file or directory"),
        ("secret", f"TEMPOMESH_SERVER_SECRET_KEYS_FILE: {file} is not JSON"),
        ('{"one": "short"}', "TEMPOMESH_SERVER_SECRET_KEYS: Value error, key 'one' is not base64 of 32 bytes"),
        (SETTINGS["TEMPOMESH_SERVER_SECRET_KEYS"], "PostgreSQL cannot be reached"),
    ):
        if content is not None:
            file.write_text(content)
        result = CliRunner().invoke(server, env=settings)
        assert line in result.output
        assert "secret" not in result.output
