"""What is wrong with the settings is said in one line, before anything is started."""

import json

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
        ({}, 4, "PostgreSQL cannot be reached"),
    ],
)
def test_a_server_that_cannot_start_says_why(changed: dict[str, str], exit_code: int, line: str) -> None:
    result = CliRunner().invoke(server, env={**SETTINGS, **changed})
    assert result.exit_code == exit_code
    assert line in result.output
    assert "secret" not in result.output
