"""Settings of the server process."""

import base64
import binascii
from datetime import timedelta
from pathlib import Path
from tempfile import gettempdir

from pydantic import BaseModel, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from server.projects import Role

__all__ = ["ClientSettings", "ServerSettings"]

_KEY_BYTES = 32


class ClientSettings(BaseModel):
    """A client that is made, or brought up to date, when the server starts."""

    client_id: str
    role: Role
    secret: SecretStr
    """Its bearer token; only a hash of it is stored."""


class ServerSettings(BaseSettings):
    """Read from variables with the prefix `TEMPOMESH_SERVER_`; lists and maps are JSON."""

    model_config = SettingsConfigDict(env_prefix="TEMPOMESH_SERVER_", extra="forbid")

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8000
    """Port to listen on."""
    database_url: SecretStr
    """PostgreSQL, as SQLAlchemy spells it: `postgresql+psycopg2://user:password@host/database`."""
    temporal_address: str = "127.0.0.1:7233"
    """Temporal's frontend, `host:port`; also told to executors, unless `temporal_public_address` is set."""
    temporal_public_address: str | None = None
    """Temporal's frontend as executors reach it."""
    temporal_tls: bool = False
    """Whether Temporal's frontend is spoken to with TLS."""
    temporal_ui_url: str | None = None
    """Address of Temporal's Web UI, for links."""
    projects: list[str]
    """The projects that are served, each `<org>.<project>`; each is a Temporal namespace."""
    codec_keys: dict[str, SecretStr]
    """Keys of Temporal's payloads: key id to base64 of 32 bytes, newest first."""
    clients: list[ClientSettings] = []
    """Clients that exist from the start, in every project."""
    scheduled_environments: list[str] = ["prod"]
    """Environments whose models run by themselves, unless somebody decides otherwise for one of them."""
    cache_dir: Path = Field(default_factory=lambda: Path(gettempdir()) / "tempomesh-server")
    """A folder of the server's own for SQLMesh, which wants one; it stays empty."""
    database_pool_size: int = 20
    """Connections to PostgreSQL that are kept."""
    lease: timedelta = timedelta(seconds=30)
    """How long a claim lives that its executor does not renew."""
    max_body_bytes: int = Field(default=256 * 1024 * 1024, ge=1024)
    """A request whose unpacked body is larger than this is refused; plans are the largest."""
    query_role: Role = Role.DEVELOPER
    """The smallest role of people who may query warehouses: `developer` or `admin`."""
    query_max_rows: int = Field(default=100_000, ge=1)
    """A query with more rows than this fails."""
    query_max_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    """A query whose rows are larger than this, as JSON, fails."""
    retention_days: int = Field(default=30, ge=0)
    """How long console events and documents of a plan or run are kept after its end; 0 keeps them for ever."""
    codec_origins: list[str] = []
    """Origins of Temporal's Web UI besides that of `temporal_ui_url`: pages that may call the codec."""
    codec_open_to_loopback: bool = False
    """Whether the Web UI decodes without a token, if browser and server are on one machine; for development only."""
    metrics_host: str = "127.0.0.1"
    """Address that metrics are served at; whoever reaches it needs no token."""
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Port of `/metrics`, for Prometheus; by default there is none."""
    log_json: bool | None = None
    """Whether logs are JSON; if not said, they are unless stderr is a terminal."""

    @field_validator("query_role")
    @classmethod
    def _is_a_persons(cls, role: Role) -> Role:
        if role not in (Role.DEVELOPER, Role.ADMIN):
            raise ValueError("it is developer or admin")
        return role

    @field_validator("codec_keys")
    @classmethod
    def _are_keys(cls, keys: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for key_id, key in keys.items():
            try:
                size = len(base64.b64decode(key.get_secret_value(), validate=True))
            except binascii.Error:
                size = 0
            if size != _KEY_BYTES:
                raise ValueError(f"key '{key_id}' is not base64 of {_KEY_BYTES} bytes")
        if not keys:
            raise ValueError("at least one key is needed")
        return keys
