"""Turns of bundles, sent to the server together: what comes while a call is under way goes with the next.

A call costs the server and the executor more than most of what it carries, and an executor that is busy has many lanes.
"""

import asyncio

import httpx

from tcloud.api.executor import ExecutorApi, RefusedError
from tcloud.wire.executions import TurnRefusal, UnitStarted, UnitTurn

__all__ = ["TurnQueue"]

_AT_ONCE = 2
"""Calls under way: while the server is at one, the next one is on its way."""

_LARGEST = 16


class TurnQueue:
    """Sends turns in the order in which they come.

    Args:
        api: The server.
    """

    def __init__(self, api: ExecutorApi):
        self._api = api
        self._waiting: list[tuple[UnitTurn, asyncio.Future[UnitStarted | None]]] = []
        self._senders: set[asyncio.Task[None]] = set()

    async def take(self, turn: UnitTurn) -> UnitStarted | None:
        """Takes a turn; None if nothing was to be started.

        Raises:
            RefusedError: If the server refused this turn.
            httpx.HTTPError: If it could not be reached, or is in trouble: the turn may have been taken.
        """
        answer: asyncio.Future[UnitStarted | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, answer))
        if len(self._senders) < _AT_ONCE:
            sender = asyncio.create_task(self._send())
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        return await answer

    async def _send(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_LARGEST], self._waiting[_LARGEST:]
            try:
                answers = await self._api.take_turns([turn for turn, _ in batch])
            except (httpx.HTTPError, RefusedError) as error:
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for (_, answer), given in zip(batch, answers, strict=True):
                if answer.done():
                    continue
                if given.refused is None:
                    answer.set_result(given.started)
                else:
                    answer.set_exception(_error(given.refused))


def _error(refused: TurnRefusal) -> Exception:
    if httpx.codes.is_server_error(refused.status):
        return httpx.HTTPError(refused.message)
    return RefusedError(refused.status, refused.code, refused.message, None)
