"""How often somebody may fail to sign in."""

import math
import time

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

__all__ = ["Attempts", "TooManyAttemptsError"]


class TooManyAttemptsError(Exception):
    """Somebody has to wait before they try again.

    Args:
        seconds: How long.
    """

    def __init__(self, seconds: int):
        super().__init__(f"Too many attempts: try again in {seconds} seconds.")
        self.seconds = seconds


class Attempts:
    """Counts failures, in this process.

    Args:
        per_identity: How many failures one person's name takes before its password is not looked at, as in
            `10/5 minutes`.
        per_address: How many failures may come from one address.
    """

    def __init__(self, per_identity: str, per_address: str):
        self._per_identity = parse(per_identity)
        self._per_address = parse(per_address)
        self._counts = MovingWindowRateLimiter(MemoryStorage())

    def check(self, address: str, identity_id: str | None = None) -> None:
        """Lets an attempt go ahead.

        Raises:
            TooManyAttemptsError: If it has to wait.
        """
        for item, name in self._counted(address, identity_id):
            if not self._counts.test(item, *name):
                reset = self._counts.get_window_stats(item, *name).reset_time
                raise TooManyAttemptsError(max(1, math.ceil(reset - time.time())))

    def failed(self, address: str, identity_id: str | None = None) -> None:
        """Counts a failure."""
        for item, name in self._counted(address, identity_id):
            self._counts.hit(item, *name)

    def _counted(self, address: str, identity_id: str | None) -> list[tuple[RateLimitItem, tuple[str, str]]]:
        counted: list[tuple[RateLimitItem, tuple[str, str]]] = [(self._per_address, ("address", address))]
        if identity_id is not None:
            counted.append((self._per_identity, ("identity", identity_id)))
        return counted
