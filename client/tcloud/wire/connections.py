"""The vault: connections of gateways, which only executors open."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_serializer

__all__ = ["Connection", "ConnectionRequest", "ConnectionTestRequest", "SealedConnection", "SealedConnections"]

_QUERY_ID = Field(pattern=r"^[0-9a-f]{32}$")


class ConnectionTestRequest(BaseModel):
    """Has an executor test the connection that is there."""

    model_config = ConfigDict(extra="forbid")

    query_id: str = _QUERY_ID
    """Made by the sender, who follows the query of that id: the same request again is one."""


class ConnectionRequest(ConnectionTestRequest):
    """A connection that is to be tested, and kept if the test succeeds."""

    connection: SecretStr
    """The options of SQLMesh's connection, as JSON: what stands below `connection:`."""
    project_gateways: list[str] | None = None
    """The gateways that the project's configuration names, if its sender has it."""

    @field_serializer("connection", when_used="json")
    def _reveal(self, connection: SecretStr) -> str:
        return connection.get_secret_value()


class Connection(BaseModel):
    """A connection as everybody may see it: nothing of what is in it but its type."""

    gateway: str
    type: str
    """SQLMesh's connection type, such as `postgres`."""
    dialect: str
    default_catalog: str | None = None
    concurrent_tasks: int
    created_by: str
    created_at: datetime
    changed_by: str
    changed_at: datetime
    executors: list[str] = []
    """The executors that are alive and serve the gateway with it."""


class SealedConnection(BaseModel):
    """A connection as executors get it."""

    gateway: str
    type: str
    revision: str
    """Another one with every change of the connection."""
    sealed: str
    """Base64 of the envelope (`vault.envelopes`)."""
    data_key: SecretStr
    """Base64 of what opens it."""

    @field_serializer("data_key", when_used="json")
    def _reveal(self, data_key: SecretStr) -> str:
        return data_key.get_secret_value()


class SealedConnections(BaseModel):
    """All connections of a project's vault."""

    known: str
    """A name for what is in the vault: another one whenever something is added, changed or deleted."""
    connections: list[SealedConnection] = []
