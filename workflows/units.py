"""What plan and run workflows share: they evaluate units, and hear from those that take long."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.dispatch import UnitDispatch
    from workflows.interfaces import ExecutorQueue
    from workflows.payloads import UnitProgress, Walk

__all__ = ["UnitsWorkflow"]


class UnitsWorkflow:
    """Base of the workflows that evaluate units."""

    _dispatch: UnitDispatch | None = None

    @workflow.signal
    def units_progress(self, progress: UnitProgress) -> None:
        """Sent by an executor in the middle of a bundle whose current unit takes long."""
        if self._dispatch is not None:
            self._dispatch.progress(progress)

    @workflow.signal
    def table_released(self) -> None:
        """Sent by the server: a physical table is free for which units of this workflow wait."""
        if self._dispatch is not None:
            self._dispatch.ask_again()

    async def _evaluate(self, walk: Walk, environment: str, queue: ExecutorQueue) -> Walk:
        self._dispatch = UnitDispatch(environment, queue)
        return await self._dispatch.run(walk)
