"""Where a browser goes once somebody has signed in."""

import re

__all__ = ["OVERVIEW", "safe_return"]

OVERVIEW = "/auth/account"
_PAGE = re.compile(r"/auth(?:/account|/device|/password)?(?:\?[!-\[\]-~]*)?\Z")


def safe_return(path: str) -> str:
    """The path, if it is one of the pages of signing in; anything else might lead away from this server."""
    return path if _PAGE.match(path) else OVERVIEW
