"""A connection that is never opened: it answers what SQLMesh asks of a warehouse.

SQLMesh wants an engine adapter for dialect, catalog support and schema comparison. This one is the real adapter of the
gateway's engine, with the default catalog that an executor told the server. What only reads, executors answer; whatever
else would need the warehouse is an error.
"""

import typing as t

from pydantic import Field
from sqlmesh.core.config.connection import CONNECTION_CONFIG_TO_TYPE, ConnectionConfig
from sqlmesh.core.engine_adapter.base import EngineAdapter
from sqlmesh.utils.errors import ConfigError, SQLMeshError

from tcloud.scheduler.queries import ask_of
from tcloud.scheduler.session import current_session
from tcloud.scheduler.warehouse import remote_methods

__all__ = ["CloudConnectionConfig"]

_WITHOUT_LOCAL_ENGINE = {"disable_databricks_connect": True, "disable_spark_session": True}


class CloudConnectionConfig(ConnectionConfig):
    """The connection of a gateway whose connection only executors have."""

    type_: t.Literal["cloud"] = Field(alias="type", default="cloud")
    gateway: str
    """The gateway's name, as the executors have it."""
    concurrent_tasks: t.Literal[1] = 1
    register_comments: bool = True
    pre_ping: t.Literal[False] = False

    def create_engine_adapter(
        self,
        register_comments_override: bool = False,  # noqa: ARG002 (SQLMesh's signature)
        concurrent_tasks: int | None = None,  # noqa: ARG002 (SQLMesh's signature)
    ) -> EngineAdapter:
        """The adapter of the gateway's engine, unconnected.

        Raises:
            TcloudError: If the server cannot be asked, or no executor serves the gateway.
            ConfigError: If this SQLMesh does not know the gateway's engine.
        """
        served = current_session().gateway(self.gateway)
        engine = _engine_connection(served.type)
        return _unconnected(engine._engine_adapter, self._connection_factory, self.gateway)(
            self._connection_factory,
            default_catalog=served.default_catalog,
            **{**engine._extra_engine_config, **_WITHOUT_LOCAL_ENGINE},
        )

    def get_catalog(self) -> str | None:
        return current_session().gateway(self.gateway).default_catalog

    @property
    def _connection_kwargs_keys(self) -> set[str]:
        return set()

    @property
    def _engine_adapter(self) -> type[EngineAdapter]:
        return _engine_connection(current_session().gateway(self.gateway).type)._engine_adapter

    @property
    def _connection_factory(self) -> t.Callable[..., t.NoReturn]:
        return lambda *_, **__: _refuse(self.gateway)


def _unconnected(
    adapter: type[EngineAdapter], refuse: t.Callable[..., t.NoReturn], gateway: str
) -> type[EngineAdapter]:
    # Some adapters import their driver before they ask for a connection; a subclass, so that their clones refuse too.
    methods = {"_execute": staticmethod(refuse), **remote_methods(ask_of(gateway))}
    return type(adapter.__name__, (adapter,), methods)


def _engine_connection(connection_type: str) -> ConnectionConfig:
    config = CONNECTION_CONFIG_TO_TYPE.get(connection_type)
    if config is None:
        raise ConfigError(
            f"This SQLMesh does not know connections of type '{connection_type}'; install the version that the "
            "executors have (`tcloud executors list`)."
        )
    # Not validated: that would import the warehouse's driver and ask for credentials, and neither is used.
    blanks: dict[str, t.Any] = {name: "" for name, field in config.model_fields.items() if field.is_required()}
    return config.model_construct(**blanks)


def _refuse(gateway: str) -> t.NoReturn:
    raise SQLMeshError(
        f"A statement has to run on an executor: gateway '{gateway}' has no connection on this machine. "
        "Use a model, a plan or a run, or the warehouse's own client."
    )
