"""Short-lived tokens for Temporal: what executors show at the edge, and what Temporal's own authorizer reads."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from server.projects import Project
from server.signing import TokenSigner
from tcloud.wire.executors import ExecutorKind

__all__ = ["EdgePass", "TemporalTokens"]

_LIFETIME = timedelta(minutes=10)
_EDGE = "tempomesh-edge"
_FRONTEND = "temporal"
"""Audiences. What is good at the edge says nothing that Temporal's authorizer would take for a permission."""

_WRITE = "write"
"""Temporal's smallest role that polls; it may start and terminate workflows as well."""


@dataclass(frozen=True)
class EdgePass:
    """What a token is good for at the edge."""

    identity_id: str
    project: Project
    kind: ExecutorKind


class TemporalTokens:
    """Issues tokens and reads those of executors.

    Args:
        signer: Whose signature they have.
        lifetime: How long each is good.
    """

    def __init__(self, signer: TokenSigner, lifetime: timedelta = _LIFETIME):
        self._signer = signer
        self.lifetime = lifetime

    def for_edge(self, project: Project, identity_id: str, kind: ExecutorKind) -> str:
        """A token that lets an executor do its work for one project, on the queues of one kind, through the edge."""
        mine = {"namespace": project.namespace, "queue": kind.value}
        return self._signer.sign(self._common(identity_id, _EDGE) | mine)

    def for_frontend(self, projects: Iterable[Project], identity_id: str) -> str:
        """A token that Temporal's default claim mapper reads: its bearer may write in the projects' namespaces."""
        permissions = [f"{project.namespace}:{_WRITE}" for project in projects]
        return self._signer.sign(self._common(identity_id, _FRONTEND) | {"permissions": permissions})

    def read_edge(self, token: str) -> EdgePass | None:
        """What a token is good for at the edge; None if for nothing."""
        claims = self._signer.claims(token)
        if claims is None or claims.get("aud") != _EDGE:
            return None
        try:
            return EdgePass(
                identity_id=str(claims["sub"]),
                project=Project.parse(claims["namespace"]),
                kind=ExecutorKind(claims["queue"]),
            )
        except (KeyError, ValueError):
            return None

    def _common(self, identity_id: str, audience: str) -> dict[str, object]:
        now = datetime.now(UTC)
        return {
            "sub": identity_id,
            "aud": audience,
            "iat": int(now.timestamp()),
            "exp": int((now + self.lifetime).timestamp()),
        }
