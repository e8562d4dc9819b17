"""Settings of the server process."""

import json
from datetime import timedelta
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Self
from urllib.parse import urlsplit

from limits import parse
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from server.projects import Role
from server.sealing import KeyRing, SealingError

__all__ = ["ClientSettings", "ProviderSettings", "ServerSettings"]


class ClientSettings(BaseModel):
    """A client that is made, or brought up to date, when the server starts."""

    client_id: str
    role: Role
    secret: SecretStr
    """Its bearer token; only a hash of it is stored."""


class ProviderSettings(BaseModel):
    """An identity provider with whose accounts people may sign in (OpenID Connect)."""

    model_config = ConfigDict(extra="forbid")

    issuer: str
    """Its issuer; `<issuer>/.well-known/openid-configuration` says the rest."""
    client_id: str
    client_secret: SecretStr
    name: str = "single sign-on"
    """What the button says: sign in with …"""
    scopes: str = "openid email profile"
    """What the provider is asked for."""
    claim: str = "email"
    """The claim whose value is the person's id here."""
    allowed_domains: list[str] = []
    """Only people whose id ends with `@` and one of these; everybody whom the provider lets in if there is none."""


class ServerSettings(BaseSettings):
    """Read from variables with the prefix `TEMPOMESH_SERVER_`; lists and maps are JSON."""

    model_config = SettingsConfigDict(env_prefix="TEMPOMESH_SERVER_", extra="forbid")

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8000
    """Port to listen on."""
    database_url: SecretStr
    """PostgreSQL, as SQLAlchemy spells it: `postgresql+psycopg2://user:password@host/database`."""
    temporal_public_address: str | None = None
    """`host:port` at which executors reach Temporal, or the edge in front of it; the server's own if not set."""
    temporal_public_tls: bool = True
    """Whether there is TLS at `temporal_public_address`."""
    temporal_tokens: bool = False
    """Whether Temporal's authorizer takes tokens that this server signs: whoever calls Temporal then gets some."""
    edge_host: str = "127.0.0.1"
    """Address on which the edge listens for gRPC."""
    edge_port: int | None = None
    """Port of the edge; without one there is none, and executors call Temporal itself."""
    temporal_ui_url: str | None = None
    """Address of Temporal's Web UI, for links."""
    projects: list[str]
    """The projects that are served, each `<org>.<project>`; each is a Temporal namespace."""
    public_url: str | None = None
    """The server's root as people and programs reach it; `http://<host>:<port>` if not set. It issues the tokens."""
    token_lifetime: timedelta = Field(default=timedelta(minutes=10), ge=timedelta(minutes=1), le=timedelta(days=1))
    """How long an access token lives."""
    sign_in_lifetime: timedelta = timedelta(days=30)
    """How long a person stays signed in."""
    signing_key_rotation: timedelta = Field(default=timedelta(days=30), ge=timedelta(hours=1))
    """How old the key gets that tokens are signed with."""
    sign_in_failures_per_person: str = "10 per 5 minutes"
    """After so many wrong passwords a person has to wait."""
    sign_in_failures_per_address: str = "50 per 5 minutes"
    """After so many failures an address has to wait."""
    local_accounts: bool = True
    """Whether people may sign in with a password of this server."""
    provider: ProviderSettings | None = None
    """An identity provider with whose accounts people may sign in."""
    codec_keys: dict[str, SecretStr]
    """Keys of Temporal's payloads: key id to base64 of 32 bytes, newest first."""
    secret_keys: dict[str, SecretStr]
    """Keys of the secrets in the server's database (`server.sealing`): key id to base64 of 32 bytes, newest first."""
    secret_keys_file: Path | None = None
    """A file with the JSON of `secret_keys`, in place of the variable."""
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
    query_max_rows: int = Field(default=100_000, ge=1)
    """A query with more rows than this fails."""
    query_max_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    """A query whose rows are larger than this, as JSON, fails."""
    migrate_beside_work: bool = False
    """Whether SQLMesh's state is migrated at the start even while plans or runs are recorded as being at work; for
    records that nothing will ever end."""
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

    @property
    def root_url(self) -> str:
        """The server's root, without a slash at its end."""
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")

    @field_validator("sign_in_failures_per_person", "sign_in_failures_per_address")
    @classmethod
    def _is_a_limit(cls, limit: str) -> str:
        try:
            parse(limit)
        except ValueError:
            raise ValueError(f"'{limit}' is not of the form '10 per 5 minutes'") from None
        return limit

    @field_validator("public_url")
    @classmethod
    def _is_a_root(cls, url: str | None) -> str | None:
        parts = urlsplit(url or "")
        if url is not None and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query):
            raise ValueError("it is of the form https://<host>")
        return url

    @model_validator(mode="before")
    @classmethod
    def _read_secret_keys(cls, given: dict[str, Any]) -> dict[str, Any]:
        path = given.get("secret_keys_file")
        if not path:
            return given
        if "secret_keys" in given:
            raise ValueError("SECRET_KEYS and SECRET_KEYS_FILE are both set: keep one")
        try:
            return {**given, "secret_keys": json.loads(Path(path).read_text())}
        except OSError as error:
            raise ValueError(f"SECRET_KEYS_FILE: {path} cannot be read: {error.strerror}") from error
        except ValueError:
            raise ValueError(f"SECRET_KEYS_FILE: {path} is not JSON") from None

    @field_validator("codec_keys", "secret_keys")
    @classmethod
    def _are_keys(cls, keys: dict[str, SecretStr]) -> dict[str, SecretStr]:
        try:
            KeyRing(keys)
        except SealingError as error:
            raise ValueError(str(error)) from error
        return keys

    @model_validator(mode="after")
    def _names_its_edge(self) -> Self:
        if self.edge_port is not None and self.temporal_public_address is None:
            raise ValueError("TEMPORAL_PUBLIC_ADDRESS has to say where executors reach the edge of EDGE_PORT")
        return self
