"""Pausing and resuming: what is asked of the server, and what it answers."""

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from tcloud.wire.environments import Environment
from tcloud.wire.pauses import Pause

__all__ = ["ModelPauseRequest", "PauseAnswer", "PauseRequest", "ResumeAnswer", "ResumeRequest"]

Reason = Annotated[str, Field(min_length=1, max_length=500, pattern=r"\S")]


class PauseRequest(BaseModel):
    """Asks for an environment to be paused."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason
    until: datetime | None = None
    """When it ends by itself; UTC if it does not say otherwise."""
    lasts: timedelta | None = None
    """Or after how long."""
    now: bool = False
    """Whether what is in flight is cancelled, too; it finishes if not."""


class ModelPauseRequest(BaseModel):
    """Asks for models of an environment to be paused."""

    model_config = ConfigDict(extra="forbid")

    environment: str
    model: Annotated[str, Field(min_length=1, max_length=1000, pattern=r"\S")]
    """A model's name, or a selection as SQLMesh reads it: `tag:`, `+`, wildcards."""
    reason: Reason
    until: datetime | None = None
    lasts: timedelta | None = None


class PauseAnswer(BaseModel):
    """What came of asking for a pause."""

    environment: Environment
    pause: Pause
    outcome: str
    """`paused`, `already_paused` where there was this very pause, or `changed` where it got another reason or end."""
    cancelled_runs: list[str] = []


class ResumeRequest(BaseModel):
    """Asks for a pause to end."""

    model_config = ConfigDict(extra="forbid")

    catch_up: bool = True
    """Whether what is due is evaluated at once; the next tick does it if not."""


class ResumeAnswer(BaseModel):
    """What came of it."""

    environment: Environment
    pause: Pause
    run_id: str | None = None
    """The run that evaluates what is due."""
    no_run: str | None = None
    """Why there is none."""
