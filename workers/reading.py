"""Reads environments before their first tick: a tick that finds nothing due is then over at once."""

import httpx
import structlog

from activities.runner_calls import RunnerCalls
from envmanager.errors import PythonUnavailableError, RunnerCrashedError, TaskFailedError, ZygoteFailedError
from tcloud.api.executor import RefusedError

__all__ = ["EnvironmentReader"]

_log = structlog.get_logger(__name__)


class EnvironmentReader:
    """Has each environment read once after each plan.

    Args:
        runners: Whose runner processes read.
    """

    def __init__(self, runners: RunnerCalls):
        self._runners = runners
        self._read: dict[str, str] = {}

    async def read(self, scheduled: dict[str, str]) -> None:
        """Reads the environments that have changed since they were read.

        Args:
            scheduled: Environments, and the id of the plan that each is of.
        """
        for environment, plan_id in scheduled.items():
            if self._read.get(environment) == plan_id:
                continue
            # Once, also where it fails: whatever is wrong is the tick's to report.
            self._read[environment] = plan_id
            try:
                await self._runners.read_environment(environment)
            except (
                *(httpx.HTTPError, RefusedError, TaskFailedError, RunnerCrashedError, ZygoteFailedError),
                PythonUnavailableError,
            ) as error:
                _log.warning("environment_not_read", environment=environment, reason=str(error))
            else:
                _log.debug("environment_read", environment=environment, plan_id=plan_id)
