from pathlib import Path

import pytest

from stack.errors import StackError
from stack.gateways import project_variables


def test_connections_become_variables_and_files_absolute(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        """
        gateways:
          local:
            connection: {type: duckdb, database: db/local.duckdb}
            state_connection: {type: duckdb, database: state.duckdb}
          far:
            connection: {type: postgres, host: far, port: 5433, user: me, password: secret, database: shop}
            scheduler: {type: cloud}
        default_gateway: far
        model_defaults: {dialect: duckdb}
        """
    )
    assert project_variables(tmp_path) == {
        "SQLMESH__DEFAULT_GATEWAY": "far",
        "SQLMESH__GATEWAYS__LOCAL__CONNECTION__TYPE": "duckdb",
        "SQLMESH__GATEWAYS__LOCAL__CONNECTION__DATABASE": str(tmp_path / "db/local.duckdb"),
        "SQLMESH__GATEWAYS__FAR__CONNECTION__TYPE": "postgres",
        "SQLMESH__GATEWAYS__FAR__CONNECTION__HOST": "far",
        "SQLMESH__GATEWAYS__FAR__CONNECTION__PORT": "5433",
        "SQLMESH__GATEWAYS__FAR__CONNECTION__USER": "me",
        "SQLMESH__GATEWAYS__FAR__CONNECTION__PASSWORD": "secret",
        "SQLMESH__GATEWAYS__FAR__CONNECTION__DATABASE": "shop",
    }


def test_a_folder_without_a_project_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="config could not be found") as caught:
        project_variables(tmp_path)
    assert "\n" not in str(caught.value)
