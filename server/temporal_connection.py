"""How the server reaches Temporal: read from `TEMPORAL_…` variables and profiles, as Temporal's own tools read them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from temporalio.envconfig import ClientConfigProfile
from temporalio.service import TLSConfig

__all__ = ["TemporalConnection"]

_DEFAULT_ADDRESS = "127.0.0.1:7233"


@dataclass(frozen=True)
class TemporalConnection:
    """Where Temporal's frontend is, and what it asks for. Namespaces are the projects', whatever a profile says."""

    address: str = _DEFAULT_ADDRESS
    """`host:port`."""
    tls: bool | TLSConfig = False
    api_key: str | None = field(default=None, repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What goes along with every call."""

    @property
    def uses_tls(self) -> bool:
        """Whether it is spoken to with TLS."""
        return self.tls is not False

    @classmethod
    def load(cls) -> Self:
        """Reads `TEMPORAL_ADDRESS`, `TEMPORAL_API_KEY`, `TEMPORAL_TLS_…`, `TEMPORAL_CONFIG_FILE`, `TEMPORAL_PROFILE`.

        Raises:
            ValueError: If a profile or a file that they name is not there, or means nothing.
        """
        try:
            found = ClientConfigProfile.load().to_client_connect_config()
        except (RuntimeError, OSError) as error:
            raise ValueError(f"Temporal's variables (TEMPORAL_…) or its configuration file: {error}") from error
        return cls(
            address=found.get("target_host", _DEFAULT_ADDRESS),
            tls=found.get("tls", False),
            api_key=found.get("api_key"),
            metadata=found.get("rpc_metadata", {}),
        )
