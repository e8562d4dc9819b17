"""A file of DuckDB that somebody else has open."""

from pathlib import Path

import pytest
from sqlmesh.utils.errors import ConfigError

from tempomesh_runner import gateways
from tempomesh_runner.gateways import Gateways
from tests.fixtures.strangers import stranger


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "warehouse.duckdb"
    monkeypatch.setenv("SQLMESH__GATEWAYS__LOCAL__CONNECTION__TYPE", "duckdb")
    monkeypatch.setenv("SQLMESH__GATEWAYS__LOCAL__CONNECTION__DATABASE", str(path))
    return path


def test_it_is_waited_for(warehouse: Path) -> None:
    said: list[str] = []
    with stranger(warehouse) as process:

        def say(message: str) -> None:
            said.append(message)
            process.kill()

        with Gateways.of_process({}).turn(say):
            assert len(said) == 1
    assert said[0].startswith(f"Waiting: {warehouse} is locked by ")
    assert f"(PID {process.pid})" in said[0]


def test_it_is_named_when_patience_ends(warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateways, "_FOREIGN_LOCK_SECONDS", 0.0)
    with (
        stranger(warehouse) as process,
        pytest.raises(ConfigError, match=rf"\(PID {process.pid}\): close it there, then try again"),
        Gateways.of_process({}).turn(lambda _: None),
    ):
        raise AssertionError("it is not our turn")
