"""Tokens that were got by signing in: `auth.yaml` in `TCLOUD_HOME`, which only its owner may read."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ValidationError

__all__ = ["FILE_NAME", "TokenStore", "Tokens"]

FILE_NAME = "auth.yaml"
_SERVERS = "servers"
_LOCK_SECONDS = 60
_LONGEST_MARGIN_SECONDS = 60.0


class Tokens(BaseModel):
    """What a server issued."""

    scope: str = ""
    token_type: str = "Bearer"  # noqa: S105 - the name of a kind of token
    access_token: str = ""
    id_token: str
    """What requests are sent with."""
    refresh_token: str | None = None
    issued_at: float
    expires_at: float
    client_id: str = ""
    """Whom they were issued to."""

    @classmethod
    def of_answer(cls, answer: Mapping[str, Any], client_id: str) -> Self:
        """The tokens in an answer of a token endpoint.

        Raises:
            pydantic.ValidationError: If it has none.
        """
        now = time.time()
        found = {"id_token": answer.get("access_token"), **answer}
        return cls.model_validate(
            {
                **found,
                "client_id": client_id,
                "issued_at": now,
                "expires_at": now + float(answer.get("expires_in") or 60),
            }
        )

    def is_fresh(self) -> bool:
        """Whether they are good for a while yet."""
        lifetime = self.expires_at - self.issued_at
        return time.time() < self.expires_at - min(_LONGEST_MARGIN_SECONDS, lifetime / 5)


class TokenStore:
    """The tokens for one server, or for one client of it.

    Args:
        home: `TCLOUD_HOME`.
        name: The server's root URL; for a service with its id before it.
    """

    def __init__(self, home: Path, name: str):
        self._path = home / FILE_NAME
        self._name = name

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from getting new tokens at the same time: a refresh token is good only once."""
        from filelock import FileLock

        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._path.with_suffix(".lock"), timeout=_LOCK_SECONDS, mode=0o600):
            yield

    def read(self) -> Tokens | None:
        """The tokens, if there are any; what cannot be read is none."""
        try:
            return Tokens.model_validate(self._document()[_SERVERS][self._name])
        except (KeyError, TypeError, ValidationError):
            return None

    def write(self, tokens: Tokens | None) -> None:
        """Keeps tokens in place of those that were there; None forgets them. To be called `locked`."""
        document = self._document()
        servers = document.get(_SERVERS)
        # A file of other clients, which know of one server only, is replaced.
        servers = dict(servers) if isinstance(servers, dict) else {}
        servers = {name: kept for name, kept in servers.items() if _is_of_use(kept)}
        if tokens is None:
            servers.pop(self._name, None)
        else:
            servers[self._name] = tokens.model_dump(exclude_none=True)
        self._save({_SERVERS: servers})

    def _document(self) -> dict[str, Any]:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        try:
            found = YAML(typ="safe").load(self._path.read_text())
        except (OSError, UnicodeDecodeError, YAMLError):
            return {}
        return found if isinstance(found, dict) else {}

    def _save(self, document: dict[str, Any]) -> None:
        from ruamel.yaml import YAML

        temporary = self._path.with_suffix(f".{os.getpid()}")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            YAML(typ="safe").dump(document, file)
        temporary.replace(self._path)


def _is_of_use(kept: object) -> bool:
    return isinstance(kept, dict) and ("refresh_token" in kept or kept.get("expires_at", 0) > time.time())
