"""The edge's own connection to Temporal, with the server's credentials."""

import grpc
from temporalio.service import TLSConfig

from server.temporal_connection import TemporalConnection

__all__ = ["LARGEST_REQUEST_BYTES", "open_channel"]

LARGEST_REQUEST_BYTES = 4 * 1024 * 1024
"""What Temporal's frontend takes."""

_LARGEST_ANSWER_BYTES = 128 * 1024 * 1024
"""What Temporal's SDKs take."""


def open_channel(connection: TemporalConnection) -> grpc.aio.Channel:
    """A channel that connects when it is first used; to be closed by whoever opened it."""
    options: list[tuple[str, str | int]] = [
        ("grpc.max_receive_message_length", _LARGEST_ANSWER_BYTES),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 15_000),
    ]
    if not connection.uses_tls:
        return grpc.aio.insecure_channel(connection.address, options)
    tls = connection.tls if isinstance(connection.tls, TLSConfig) else TLSConfig()
    if tls.domain is not None:
        options += [("grpc.ssl_target_name_override", tls.domain), ("grpc.default_authority", tls.domain)]
    credentials = grpc.ssl_channel_credentials(tls.server_root_ca_cert, tls.client_private_key, tls.client_cert)
    return grpc.aio.secure_channel(connection.address, credentials, options)
