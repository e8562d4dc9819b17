"""What a request is signed with: the one place that signing in changes."""

from tcloud.settings import Settings

__all__ = ["bearer_token"]


def bearer_token(settings: Settings) -> str | None:
    """The token to send, or None to go without: `TCLOUD_TOKEN`, else the project's own, else `TCLOUD_CLIENT_SECRET`."""
    secret = settings.token or settings.client_secret
    return secret.get_secret_value() if secret else None
