"""What a trace shows of statements: their verbs and times, never their text."""

import json

from sqlmesh.core.config import DuckDBConnectionConfig
from sqlmesh.core.engine_adapter.base import EngineAdapter

from tempomesh_runner.query_spans import noted_queries


def test_statements_are_noted_without_their_text() -> None:
    before = EngineAdapter._execute
    adapter = DuckDBConnectionConfig().create_engine_adapter()
    with noted_queries() as noted:
        adapter.execute("/* plan 4f20 */ create table canaries as select 'canary' as word")
        adapter.execute("select * from canaries")
    adapter.execute("select 1")
    adapter.close()
    assert [span["name"] for span in noted] == ["query CREATE", "query SELECT"]
    assert all(0 < span["start_ns"] <= span["end_ns"] for span in noted)
    assert noted[0]["attributes"] == {"db.system.name": "duckdb", "db.operation.name": "CREATE"}
    assert "canar" not in json.dumps(noted)
    assert EngineAdapter._execute is before
