"""Short-lived tokens for Temporal: what executors show at the edge, and what Temporal's own authorizer reads."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from fastapi.concurrency import run_in_threadpool

from server.projects import Project
from tcloud.wire.executors import ExecutorKind

__all__ = ["EdgePass", "TemporalTokens", "TokenSigner"]

_LIFETIME = timedelta(minutes=10)
_EDGE = "tempomesh-edge"
_FRONTEND = "temporal"
"""Audiences. What is good at the edge says nothing that Temporal's authorizer would take for a permission."""

_WRITE = "write"
"""Temporal's smallest role that polls; it may start and terminate workflows as well."""

_MANY = 1000


class TokenSigner(Protocol):
    """Signs claims, and reads what it has signed. It may ask a database: not to be called from an event loop."""

    def refresh(self) -> None:
        """To be called before `sign`."""

    def sign(self, claims: Mapping[str, Any], *, kind: str = "JWT") -> str:
        """A token with these claims; `kind` is what its header says as `typ`."""

    def verify_with_new_keys(self, token: str) -> dict[str, Any] | None:
        """The claims of a token that was signed here; None of any other. Whether it has expired is not looked at."""


@dataclass(frozen=True)
class EdgePass:
    """What a token is good for at the edge."""

    identity_id: str
    project: Project
    kind: ExecutorKind
    expires_at: float
    """In seconds since the epoch."""


class TemporalTokens:
    """Issues tokens and reads those of executors.

    Args:
        signer: Whose signature they have: they are published with those of the tokens for this server.
        lifetime: How long each is good.
    """

    def __init__(self, signer: TokenSigner, lifetime: timedelta = _LIFETIME):
        self._signer = signer
        self._known: dict[str, EdgePass] = {}
        self.lifetime = lifetime

    def for_edge(self, project: Project, identity_id: str, kind: ExecutorKind) -> str:
        """A token that lets an executor do its work for one project, on the queues of one kind, through the edge."""
        mine = {"namespace": project.namespace, "queue": kind.value}
        return self._signed(identity_id, _EDGE, mine)

    def for_frontend(self, projects: Iterable[Project], identity_id: str) -> str:
        """A token that Temporal's default claim mapper reads: its bearer may write in the projects' namespaces."""
        permissions = [f"{project.namespace}:{_WRITE}" for project in projects]
        return self._signed(identity_id, _FRONTEND, {"permissions": permissions})

    async def read_edge(self, token: str) -> EdgePass | None:
        """What a token is good for at the edge; None if for nothing, or not any more."""
        known = self._known.get(token)
        if known is None:
            known = await run_in_threadpool(self._read, token)
            if known is None:
                return None
            if len(self._known) >= _MANY:
                self._known.clear()
            self._known[token] = known
        if known.expires_at <= time.time():
            self._known.pop(token, None)
            return None
        return known

    def _read(self, token: str) -> EdgePass | None:
        claims = self._signer.verify_with_new_keys(token)
        if claims is None or claims.get("aud") != _EDGE:
            return None
        try:
            return EdgePass(
                identity_id=str(claims["sub"]),
                project=Project.parse(claims["namespace"]),
                kind=ExecutorKind(claims["queue"]),
                expires_at=float(claims["exp"]),
            )
        except (KeyError, TypeError, ValueError):
            return None

    def _signed(self, identity_id: str, audience: str, more: Mapping[str, object]) -> str:
        now = time.time()
        common = {"sub": identity_id, "aud": audience, "iat": int(now), "exp": int(now + self.lifetime.total_seconds())}
        self._signer.refresh()
        return self._signer.sign({**common, **more})
