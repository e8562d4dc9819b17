"""Execution documents on an executor: fetched once, kept while they are in use."""

from collections import OrderedDict

from tcloud.api.executor import ExecutorApi
from tcloud.wire.executions import Execution

__all__ = ["Executions"]

_KEPT = 32


class Executions:
    """The executions that this executor has lately had units of.

    Args:
        api: The server.
    """

    def __init__(self, api: ExecutorApi):
        self._api = api
        self._kept: OrderedDict[str, Execution] = OrderedDict()

    async def get(self, execution_id: str) -> Execution:
        """An execution."""
        if execution_id not in self._kept:
            self.remember(Execution.model_validate_json(await self._api.execution(execution_id)))
        self._kept.move_to_end(execution_id)
        return self._kept[execution_id]

    def remember(self, execution: Execution) -> None:
        """Keeps an execution, in place of the one that has gone unused longest."""
        self._kept[execution.execution_id] = execution
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
