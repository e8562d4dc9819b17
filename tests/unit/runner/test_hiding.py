"""What a driver says of its connection is told without the secrets of it."""

from typing import Any

import pytest
from sqlmesh.utils.errors import ConfigError

from tempomesh_runner.connections import check_connection, parse_connection
from tempomesh_runner.hiding import Hiding, secret_values

PEM = "-----BEGIN KEY-----\nbase64ofakey\n-----END KEY-----"
POSTGRES = {"type": "postgres", "host": "db", "user": "ada", "password": "s3cret-word", "port": 5432, "database": "d"}


@pytest.mark.parametrize(
    ("connection", "said", "told"),
    [
        (POSTGRES, "db: ada/s3cret-word at d", "db: ada/*** at d"),
        # Nothing is said about a password that is a word of its own right.
        ({**POSTGRES, "password": "ada"}, "ada at d", "ada at d"),
        ({**POSTGRES, "password": "abc"}, "abc, but abcd", "***, but abcd"),
        ({"type": "bigquery", "keyfile_json": {"client_email": "a@b.example", "private_key": PEM}}, PEM, "***"),
        ({"type": "bigquery", "keyfile_json": {"private_key": PEM}}, "read base64ofakey", "read ***"),
        ({"type": "duckdb", "database": "md:x?motherduck_token=abcdefgh"}, "no abcdefgh", "no ***"),
        ({"type": "duckdb", "catalogs": {"p": {"path": "host=h password='top-secret' user=u"}}}, "top-secret", "***"),
        ({"type": "x", "dsn": "postgres://ada:hidden-one@db/d"}, "at hidden-one@db", "at ***@db"),
        ({"type": "duckdb", "secrets": [{"type": "s3", "key_id": "AKIA123", "n": 4711}]}, "AKIA123 4711", "*** ***"),
    ],
)
def test_secrets_are_hidden_and_the_rest_is_not(connection: dict[str, Any], said: str, told: str) -> None:
    hide = Hiding(secret_values([connection]))
    assert hide(said) == told
    assert hide({"message": [said, 1, None]}) == {"message": [told, 1, None]}


@pytest.mark.parametrize(
    ("connection", "complaint"),
    [
        ({}, "It is no mapping"),
        ({"host": "db"}, "It has no `type`: SQLMesh knows athena"),
        ({"type": "oracle"}, "no connection of type 'oracle': it knows athena"),
        ({"type": "postgres", "state_schema": "s"}, "`state_schema` is a gateway's and not a connection's"),
        ({"connection": POSTGRES}, "`connection` is a gateway's"),
        ({**POSTGRES, "port": "s3cret-word"}, "port: Input should be a valid integer"),
        ({**POSTGRES, "s3cret": "s3cret-word"}, "s3cret: Extra inputs are not permitted"),
        ({"type": "trino", "host": "h", "user": "u", "catalog": "c", "method": "jwt"}, "JWT requires"),
    ],
)
def test_what_is_no_connection_is_said_in_a_line_without_its_values(connection: dict[str, Any], complaint: str) -> None:
    for check in (check_connection, parse_connection):
        with pytest.raises(ConfigError) as refused:
            check(connection)
        said = str(refused.value)
        if check is check_connection or "engine library" not in said:
            assert complaint in said
        assert "s3cret-word" not in said
        assert "\n" not in said


def test_a_driver_is_missed_where_the_connection_is_used() -> None:
    connection = {"type": "snowflake", "account": "a", "user": "u", "password": "p"}
    check_connection(connection)
    with pytest.raises(ConfigError, match="snowflake"):
        parse_connection(connection)
