"""Whose certificates are believed."""

import ssl
from urllib.parse import urlsplit

import httpx

__all__ = ["trusted_by"]


def trusted_by(url: str) -> ssl.SSLContext | bool:
    """For httpx's `verify`: the usual authorities, or those of the file that `SSL_CERT_FILE` names.

    httpx itself looks at that variable only where it asks the environment for proxies as well.
    """
    return httpx.create_ssl_context() if urlsplit(url).scheme == "https" else True
