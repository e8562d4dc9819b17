"""Pauses: of whole environments, and of models in an environment."""

from datetime import UTC, datetime

from pydantic import BaseModel

__all__ = ["Pause"]


class Pause(BaseModel):
    """Runs of an environment, or some of its models, start nothing until it ends. Plans take no notice."""

    pause_id: str
    environment: str
    model: str | None = None
    """As it was asked for: a name or a selection; None is the whole environment."""
    models: list[str] = []
    """The models that it means now, without those downstream of them; empty for a whole environment."""
    reason: str
    created_by: str
    created_at: datetime
    until: datetime | None = None
    """When it ends by itself."""

    @property
    def explained(self) -> str:
        """Who paused it, until when, why: to follow a name and "is"."""
        until = f" until {self.until.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}" if self.until else ""
        return f"paused by {self.created_by}{until}: {self.reason.rstrip('.')} (pause {self.pause_id})."

    def why_not(self, model: str, upstream: str) -> str:
        """Why a model is left out, in one line.

        Args:
            model: The model's name.
            upstream: The model of this pause that it is downstream of, or itself.
        """
        if self.model is None:
            return f"Environment '{self.environment}' is {self.explained}"
        if upstream == model:
            return f"{model} is {self.explained}"
        return f"{model} is downstream of {upstream}, which is {self.explained}"
