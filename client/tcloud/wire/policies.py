"""What a project asks of its evaluations: how often one that failed is repeated, how long one may take, and how many of
one model there are at a time."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "EvaluationLimits",
    "EvaluationPolicy",
    "EvaluationTimeoutSeconds",
    "ModelLimits",
    "Retries",
    "RetryBackoffSeconds",
]

Retries = Annotated[int, Field(ge=0, le=100)] | None
RetryBackoffSeconds = Annotated[float, Field(ge=0, le=86_400)] | None
EvaluationTimeoutSeconds = Annotated[float, Field(gt=0, le=604_800)] | None


class EvaluationLimits(BaseModel):
    """What is asked of evaluations; None where nothing is said."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    retries: Retries = None
    """How often an evaluation that failed is repeated."""
    retry_backoff_seconds: RetryBackoffSeconds = None
    """How long it waits before each repetition."""
    evaluation_timeout_seconds: EvaluationTimeoutSeconds = None
    """After how long an evaluation, audits included, is stopped; a week is the longest."""


class ModelLimits(EvaluationLimits):
    """What is asked of the evaluations of one model."""

    concurrent_evaluations: Annotated[int, Field(ge=1)] | None = None
    """How many of them there are at a time, over all executors, environments, plans and runs; None is no limit."""


class EvaluationPolicy(EvaluationLimits):
    """What a project asks of all its evaluations, and of those of single models."""

    models: dict[str, ModelLimits] = {}
    """By the names of snapshots; what is not said there is as for all."""

    def of(self, snapshot_name: str) -> ModelLimits:
        """What is asked of a model's evaluations."""
        for_all = ModelLimits(**self.model_dump(exclude={"models"}))
        own = self.models.get(snapshot_name)
        return for_all if own is None else for_all.model_copy(update=own.model_dump(exclude_none=True))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked."""
        return not self.model_dump(exclude_none=True, exclude_defaults=True)
