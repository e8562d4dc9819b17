"""Waiting in tests: for a condition, never for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["eventually", "eventually_async"]

T = TypeVar("T")

POLL_SECONDS = 0.05


def eventually(check: Callable[[], T], timeout: float = 30.0) -> T:
    """Calls `check` until it returns something true without an `AssertionError`, and returns that.

    Raises:
        AssertionError: the last one of `check`, or one that says that it never held, after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            result = check()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        else:
            if result:
                return result
            if time.monotonic() > deadline:
                raise AssertionError(f"{check} was still {result!r} after {timeout} s")
        time.sleep(POLL_SECONDS)


async def eventually_async(check: Callable[[], Awaitable[T]], timeout: float = 30.0) -> T:  # noqa: ASYNC109
    """`eventually` for a coroutine function."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            result = await check()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        else:
            if result:
                return result
            if time.monotonic() > deadline:
                raise AssertionError(f"{check} was still {result!r} after {timeout} s")
        await asyncio.sleep(POLL_SECONDS)
