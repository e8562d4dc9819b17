"""Gateways for which an executor has no connection: they may be spoken of, but nothing is done there."""

import pytest
from sqlmesh.utils import CorrelationId
from sqlmesh.utils.errors import ConfigError, SQLMeshError

from tempomesh_runner.gateways import Gateways


def test_a_gateway_elsewhere_may_be_named_and_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLMESH__GATEWAYS__OFFICE__CONNECTION__TYPE", "duckdb")
    evaluator = Gateways.of_process({}).evaluator("office", CorrelationId.from_run_id("run-1"))
    adapter = evaluator.get_adapter("home")
    assert adapter.dialect == evaluator.adapter.dialect == "duckdb"
    with pytest.raises(SQLMeshError, match="no connection for gateway 'home'"):
        adapter.fetchall("SELECT 1")
    assert evaluator.get_adapter("office").fetchall("SELECT 1") == [(1,)]


def test_a_model_is_never_evaluated_at_a_gateway_that_nobody_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLMESH__GATEWAYS__OFFICE__CONNECTION__TYPE", "duckdb")
    gateways = Gateways.of_process({})
    assert gateways.for_model("Office", None) == "office"
    assert gateways.for_model("office", "home") == "office"
    assert gateways.for_model("home", "office") == "office"
    # As when the connection of the plan's gateway has been deleted from the vault.
    with pytest.raises(ConfigError, match="no connection for gateway 'home'; it has office"):
        gateways.for_model("home", None)
