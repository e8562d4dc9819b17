"""The connections of a project's vault, as an executor has them: sealed, until a runner process is handed them."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import structlog

from tempomesh_runner.hiding import Hiding, secret_values
from vault.opening import EnvelopeError, open_envelope

__all__ = ["ManagedConnections", "SealedEnvelope"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, repr=False)
class SealedEnvelope:
    """A gateway's connection and what opens it."""

    gateway: str
    type: str
    revision: str
    sealed: bytes
    data_key: bytes


class ManagedConnections:
    """What the vault has for this executor; a gateway of the executor's own is none of the vault's business.

    Args:
        project: `<org>.<project>`.
        own: Gateways whose connections the executor was started with.
    """

    def __init__(self, project: str, own: Collection[str] = ()):
        self._project = project
        self._own = frozenset(own)
        self._envelopes: dict[str, SealedEnvelope] = {}
        self.revision = ""
        """Of all of them together; a runner with another one has to go."""
        self.known = ""
        """The server's name for what the vault had when it was last read."""

    @property
    def revisions(self) -> dict[str, str]:
        """The revision of each connection, by gateway."""
        return {gateway: envelope.revision for gateway, envelope in self._envelopes.items()}

    @property
    def types(self) -> set[str]:
        """The types of the connections."""
        return {envelope.type for envelope in self._envelopes.values()}

    @property
    def are_brought(self) -> bool:
        """Whether the executor was started with connections of its own."""
        return bool(self._own)

    def replace(self, envelopes: Iterable[SealedEnvelope], known: str) -> bool:
        """Takes what the vault has now; says whether it differs for this executor."""
        self._envelopes = {found.gateway: found for found in envelopes if found.gateway not in self._own}
        self.known = known
        before, self.revision = self.revision, "/".join(sorted(self.revisions.values()))
        return self.revision != before

    def opened(self) -> dict[str, dict[str, Any]]:
        """The connections by gateway, to be handed on at once; one that does not open is left out, and logged."""
        found = {}
        for gateway, envelope in self._envelopes.items():
            try:
                found[gateway] = self.open(envelope)
            except EnvelopeError as error:
                _log.error("connection_does_not_open", gateway=gateway, reason=str(error))
        return found

    def open(self, envelope: SealedEnvelope) -> dict[str, Any]:
        """One connection.

        Raises:
            EnvelopeError: If it does not open.
        """
        return open_envelope(envelope.sealed, envelope.data_key, project=self._project, gateway=envelope.gateway)

    def hide(self, text: str) -> str:
        """A text without the secrets of the connections."""
        return Hiding(secret_values(self.opened().values()))(text) if self._envelopes else text
