"""Settings of workers and executors."""

import os
from datetime import timedelta
from pathlib import Path
from tempfile import gettempdir
from typing import Annotated

import httpx
from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from tcloud.credentials import service_credentials
from tcloud.settings import ALL_PROJECTS, project_url

__all__ = ["ExecutorSettings", "WorkerSettings", "cache_folder"]


def cache_folder() -> Path:
    """The folder of Python environments where no setting says another: beside uv's own cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tempomesh" / "python"


class WorkerSettings(BaseSettings):
    """What every process that serves a queue reads: where the project is, and who this is."""

    model_config = SettingsConfigDict(env_prefix="TCLOUD_", extra="ignore")

    url: Annotated[str, AfterValidator(project_url)]
    """The project's URL, `<server>/sqlmesh/<org>/<project>`."""
    token: SecretStr | None = None
    """A bearer token that is sent as it is; takes precedence over the client's secret."""
    client_id: str | None = None
    """The client that this process is for the server."""
    client_secret: SecretStr | None = None
    """The client's secret, traded for tokens."""
    token_url: str | None = None
    """Where tokens are got; `<server>/auth/token` if not set."""
    scope: str = ALL_PROJECTS
    """What a token is asked for."""
    log_json: bool | None = None
    """Whether logs are JSON; if not said, they are unless stderr is a terminal."""
    start_patience: timedelta = timedelta(seconds=60)
    """How long a process waits at its start for a server that does not answer yet."""
    maintenance_interval: timedelta = Field(default=timedelta(minutes=5), ge=timedelta(seconds=10))
    """How often the control worker has the schedules compared with what they should be."""

    health_host: str = "127.0.0.1"
    """Address that health and metrics are served at; whoever reaches it needs no token."""
    health_port: int | None = Field(default=None, ge=1, le=65535)
    """Port of `/healthz` and `/readyz`; by default there is none."""
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Port of `/metrics`, for Prometheus; by default there is none."""
    worker_deployment: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]+$")
    """Name of the control workers' deployment in Temporal; with one, versions of workers are told apart."""
    worker_build_id: str | None = None
    """What tells versions of the control worker apart; by default Tempomesh's version."""

    @property
    def credentials(self) -> httpx.Auth:
        """What requests to the server are signed with.

        Raises:
            ValueError: If there is neither a token nor a client's id and secret.
        """
        return service_credentials(self.url, self.token, self.client_id, self.client_secret, self.token_url, self.scope)

    @property
    def secrets(self) -> list[str]:
        """What no log may show."""
        return [secret.get_secret_value() for secret in (self.token, self.client_secret) if secret is not None]


class ExecutorSettings(WorkerSettings):
    """Settings of an executor."""

    env_file: Path | None = None
    """A `.env` file with SQLMESH__ variables; variables of the process win over it."""
    executor_concurrency: int | None = Field(default=None, ge=1)
    """Units of a gateway evaluated at a time; by default the gateway's `concurrent_tasks`."""
    executor_grace: timedelta = timedelta(seconds=20)
    """How long work in flight may go on after SIGTERM; what is not done by then is handed back."""
    executor_evaluation_timeout: Annotated[timedelta, Field(gt=timedelta(0))] | None = None
    """After how long an evaluation is stopped whose project sets no limit; by default never."""
    executor_keep_home: bool | None = None
    """Whether texts of queries, logs and errors stay in this executor's own log, and questions for rows are refused;
    if not said, they do where it brings its own connections and reaches Temporal through the edge."""
    executor_max_tasks_per_runner: int = 500
    """After so many evaluations a runner process is replaced."""
    executor_max_runner_memory_bytes: int = 900_000_000
    """A runner process that has more resident after a task is replaced."""
    executor_runner_memory_limit_bytes: int | None = Field(default=None, ge=100_000_000)
    """What a runner process may have of memory at all; what goes beyond fails. By default the kernel says when."""
    executor_max_idle_runners: int = Field(default=16, ge=1)
    """Runner processes that wait for work, of all Python environments together."""
    executor_max_python_environments: int = Field(default=4, ge=1)
    """Python environments, besides the executor's own interpreter, that have processes at a time."""
    executor_cache: Path = Field(default_factory=cache_folder)
    """Where Python environments are built; shared by all executors of a machine."""
    executor_python_keep: timedelta = timedelta(days=14)
    """A Python environment that has not been in use for so long is removed."""
    executor_python_max_bytes: int = Field(default=20_000_000_000, ge=0)
    """While all Python environments take more of the disk, those that have been unused longest are removed."""
    executor_scratch: Path = Field(default_factory=lambda: Path(gettempdir()))
    """Where sockets and logs of runner processes go."""
