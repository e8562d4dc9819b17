"""Snapshots on an executor: fetched from the server once, for all of its runner processes."""

from collections import OrderedDict

import orjson

from tcloud.api.executor import ExecutorApi
from tcloud.wire.executions import Execution

__all__ = ["Snapshots"]

_KEPT = 20_000


class Snapshots:
    """The snapshots that units are evaluated with, as JSON.

    What is mutable about a snapshot does not matter to an evaluation: its intervals come with the execution.

    Args:
        api: The server.
    """

    def __init__(self, api: ExecutorApi):
        self._api = api
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    async def answer(self, body: bytes, execution: Execution) -> bytes:
        """Answers the state contract's `get_snapshots`; the first miss fetches all snapshots of the execution."""
        wanted = [(name, identifier) for name, identifier in orjson.loads(body)["ids"]]
        if any(key not in self._kept for key in wanted):
            everything = {(s.name, s.identifier) for s in execution.snapshots}
            await self._fetch({*everything, *wanted})
        found = [self._kept[key] for key in wanted if key in self._kept]
        return b'{"snapshots":[' + b",".join(found) + b'],"intervals":[]}'

    async def _fetch(self, keys: set[tuple[str, str]]) -> None:
        missing = sorted(key for key in keys if key not in self._kept)
        fetched = orjson.loads(await self._api.state("get_snapshots", orjson.dumps({"ids": missing})))
        for (name, identifier), snapshot in zip(fetched["ids"], fetched["snapshots"], strict=True):
            self._kept[name, identifier] = orjson.dumps(snapshot)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
