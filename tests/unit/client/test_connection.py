"""The connection that stays shut: SQLMesh's own adapters, which answer without being connected."""

from types import SimpleNamespace

import pytest
from sqlmesh.core.config import Config, DuckDBConnectionConfig, GatewayConfig
from sqlmesh.core.config.connection import CONNECTION_CONFIG_TO_TYPE
from sqlmesh.utils.errors import SQLMeshError

from tcloud.api.client import Api
from tcloud.errors import InvalidError, NotReachableError
from tcloud.scheduler import RemoteCloudSchedulerConfig, session
from tcloud.scheduler.connection import CloudConnectionConfig
from tcloud.wire.executors import Gateway
from tobikodata.sqlmesh_enterprise.config import EnterpriseConfig

URL = "http://127.0.0.1:1/sqlmesh/acme/demo"


class KnownSession(session.Session):
    """A session whose server has already said which gateways there are."""

    def __init__(self, *gateways: Gateway):
        super().__init__(Api(URL, None))
        self._known = {gateway.name: gateway for gateway in gateways}

    def gateways(self) -> dict[str, Gateway]:
        return self._known


def serve(monkeypatch: pytest.MonkeyPatch, *gateways: Gateway) -> None:
    known = KnownSession(*gateways)
    for module in ("connection", "config"):
        monkeypatch.setattr(f"tcloud.scheduler.{module}.current_session", lambda: known)


def gateway(name: str, connection_type: str, default_catalog: str | None = "warehouse") -> Gateway:
    dialect = CONNECTION_CONFIG_TO_TYPE[connection_type].DIALECT
    return Gateway(name=name, type=connection_type, dialect=dialect, default_catalog=default_catalog)


@pytest.mark.parametrize("connection_type", sorted(set(CONNECTION_CONFIG_TO_TYPE) - {"db2"}))
def test_every_engine_answers_unconnected(connection_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = None if connection_type == "clickhouse" else "warehouse"
    serve(monkeypatch, gateway("warehouse", connection_type, catalog))
    connection = CloudConnectionConfig(gateway="warehouse")
    adapter = connection.create_engine_adapter()
    assert adapter.dialect
    assert adapter.schema_differ is not None
    if not adapter.catalog_support.is_unsupported:
        assert adapter.default_catalog == "warehouse"
    with pytest.raises(SQLMeshError, match="has to run on an executor: gateway 'warehouse'"):
        adapter.execute("SELECT 1")


def test_a_gateway_that_nobody_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, gateway("warehouse", "postgres"), gateway("lake", "duckdb"))
    with pytest.raises(InvalidError, match=r"serves gateway 'other' \(served: lake, warehouse\)"):
        CloudConnectionConfig(gateway="other").create_engine_adapter()


def test_no_executor_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch)
    with pytest.raises(NotReachableError, match=r"No executor of .* is up"):
        CloudConnectionConfig(gateway="warehouse").create_engine_adapter()


@pytest.fixture
def config() -> Config:
    return EnterpriseConfig(
        gateways={
            "Warehouse": GatewayConfig(scheduler=RemoteCloudSchedulerConfig()),
            "both": GatewayConfig(scheduler=RemoteCloudSchedulerConfig(), connection=DuckDBConnectionConfig()),
            "bare": GatewayConfig(),
            "local": GatewayConfig(connection=DuckDBConnectionConfig()),
        },
        default_gateway="Warehouse",
    )


def test_which_gateways_have_no_connection_of_their_own(config: Config) -> None:
    for name in ("warehouse", "both", "bare"):
        connection = config.get_connection(name)
        assert isinstance(connection, CloudConnectionConfig)
        assert connection.gateway == name
    assert isinstance(config.get_connection("local"), DuckDBConnectionConfig)
    default = config.get_connection()
    assert isinstance(default, CloudConnectionConfig)
    assert default.gateway == "warehouse"


def test_other_schedulers_are_left_alone() -> None:
    config = Config(gateways={"local": GatewayConfig(connection=DuckDBConnectionConfig())})
    assert isinstance(config.get_connection("local"), DuckDBConnectionConfig)


def test_the_scheduler_survives_sqlmeshs_conversion_of_configurations(config: Config) -> None:
    copied = Config.parse_obj(config.dict(exclude_computed_fields=True))
    assert isinstance(copied.get_scheduler(), RemoteCloudSchedulerConfig)


def test_default_catalogs_are_those_of_the_executors(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, gateway("warehouse", "postgres", "wh"), gateway("click", "clickhouse", None))
    adapters = {name: CloudConnectionConfig(gateway=name).create_engine_adapter() for name in ("warehouse", "click")}
    context = SimpleNamespace(engine_adapters={**adapters, "local": DuckDBConnectionConfig().create_engine_adapter()})
    catalogs = RemoteCloudSchedulerConfig().get_default_catalog_per_gateway(context)  # type: ignore[arg-type]
    # SQLMesh's own rule: a gateway without catalogs gets a virtual one beside a gateway that has them.
    assert catalogs == {"warehouse": "wh", "click": "__click__"}
