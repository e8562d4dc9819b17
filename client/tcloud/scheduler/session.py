"""The server that SQLMesh works with in this process, and what it said about the project's gateways."""

import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import httpx

from tcloud.api.client import Api
from tcloud.credentials import credentials_of
from tcloud.errors import InvalidError, NotReachableError
from tcloud.settings import Settings, load
from tcloud.wire.executors import Gateway

__all__ = ["Session", "current_session", "current_settings", "ignore_pauses", "ignores_pauses", "select_project"]

_GATEWAYS_SECONDS = 30.0


class Session:
    """One project of one server.

    Args:
        api: The client for it.
    """

    def __init__(self, api: Api):
        self.api = api
        self._gateways: dict[str, Gateway] = {}
        self._asked_at: float | None = None

    def gateways(self) -> dict[str, Gateway]:
        """The gateways that live executors serve, by their names in lower case, as SQLMesh spells them."""
        if self._asked_at is None or time.monotonic() - self._asked_at > _GATEWAYS_SECONDS:
            self._gateways = {gateway.name.lower(): gateway for gateway in self.api.gateways()}
            self._asked_at = time.monotonic()
        return self._gateways

    def gateway(self, name: str) -> Gateway:
        """What a planner has to know of one gateway.

        Raises:
            InvalidError: If no executor serves it.
            NotReachableError: If there is no executor at all.
        """
        served = self.gateways()
        if not served:
            self._asked_at = None
            raise NotReachableError(
                f"No executor of {self.api.url} is up and serves a gateway, so '{name}' cannot be planned for. Start "
                "`tcloud executor run` and `tcloud executor apply` where the warehouse is; to those that bring no "
                f"connection `tcloud connections add {name}` gives one."
            )
        if name.lower() not in served:
            self._asked_at = None
            raise InvalidError(
                f"No executor of {self.api.url} serves gateway '{name}' (served: {', '.join(sorted(served))}). "
                "Rename the gateway in the project's config, or give executors its connection: "
                f"`tcloud connections add {name}`."
            )
        return served[name.lower()]


class _Selection:
    project: str | None = None
    folders: tuple[Path, ...] = ()
    ignores_pauses = False


def select_project(project: str | None, folders: Iterable[Path]) -> None:
    """Says which project of `tcloud.yaml` is meant from now on, and where else to look for that file."""
    _Selection.project = project
    _Selection.folders = tuple(folders)


def ignore_pauses(ignores: bool) -> None:
    """Says whether runs of this process start whatever is paused."""
    _Selection.ignores_pauses = ignores


def ignores_pauses() -> bool:
    """Whether runs of this process start whatever is paused."""
    return _Selection.ignores_pauses


def current_session() -> Session:
    """The session of the project that the settings name now.

    Raises:
        InvalidError: If they name none, or are malformed.
    """
    settings = current_settings()
    return _session(settings.url, credentials_of(settings))


def current_settings() -> Settings:
    """The settings of the project that is meant."""
    return load(_Selection.project, _Selection.folders)


@lru_cache
def _session(url: str, credentials: httpx.Auth) -> Session:
    return Session(Api(url, credentials))
