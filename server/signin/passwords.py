"""Passwords of people: argon2, a few at a time."""

from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

__all__ = ["LONGEST_PASSWORD", "SHORTEST_PASSWORD", "hash_password", "is_password", "password_problem"]

SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 200

_hasher = PasswordHasher()
_at_once = BoundedSemaphore(2)
"""Each takes 64 MiB and a processor: many who sign in at once wait for one another, and the rest of the server not."""

_NOBODYS = _hasher.hash("nobody has this password")


def hash_password(password: str) -> str:
    """What is kept of a password."""
    with _at_once:
        return _hasher.hash(password)


def is_password(password: str, password_hash: str | None) -> bool:
    """Whether it is the password; takes as long if there is none."""
    if len(password) > LONGEST_PASSWORD:
        password, password_hash = "", None
    with _at_once:
        try:
            _hasher.verify(password_hash or _NOBODYS, password)
        except (VerificationError, InvalidHashError):
            return False
    return password_hash is not None


def password_problem(password: str, identity_id: str) -> str | None:
    """Why a password will not do; None if it will."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        return f"A password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters."
    if password.casefold() in (identity_id.casefold(), 2 * identity_id.casefold()) or len(set(password)) < 5:
        return "This password is too easy to guess."
    return None
