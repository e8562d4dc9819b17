"""The custom search attributes by which plans and runs are found in Temporal's own Web UI."""

from temporalio.common import SearchAttributeKey

__all__ = ["ENVIRONMENT", "KIND", "PLAN_ID", "RUN_ID", "TRIGGER"]

ENVIRONMENT = SearchAttributeKey.for_keyword("TempomeshEnvironment")
KIND = SearchAttributeKey.for_keyword("TempomeshKind")
"""`plan`, `run`, `environment`, `query` (the janitor, too) or `maintenance`."""
PLAN_ID = SearchAttributeKey.for_keyword("TempomeshPlanId")
RUN_ID = SearchAttributeKey.for_keyword("TempomeshRunId")
TRIGGER = SearchAttributeKey.for_keyword("TempomeshTrigger")
"""What started a run: `schedule`, `manual` or `resume`."""
