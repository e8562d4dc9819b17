"""Whether a proxy is asked."""

from ipaddress import ip_address
from urllib.parse import urlsplit

__all__ = ["goes_through_proxies"]


def goes_through_proxies(url: str) -> bool:
    """Whether the environment's proxies may be meant for a URL: of the loopback of this machine no proxy knows."""
    host = urlsplit(url).hostname or ""
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"
