"""`scheduler: {type: cloud}` for SQLMesh's configuration."""

import typing as t
from hashlib import sha256
from types import SimpleNamespace

from pydantic import Field
from sqlmesh.core.config import Config
from sqlmesh.core.config.base import BaseConfig
from sqlmesh.core.config.scheduler import SCHEDULER_CONFIG_TO_TYPE, BuiltInSchedulerConfig, SchedulerConfig
from sqlmesh.core.plan import PlanEvaluator
from sqlmesh.core.state_sync import StateSync
from sqlmesh.utils.errors import ConfigError

from tcloud.scheduler.connection import CloudConnectionConfig
from tcloud.scheduler.session import current_session
from tcloud.wire.policies import (
    EvaluationPolicy,
    EvaluationTimeoutSeconds,
    ModelLimits,
    Retries,
    RetryBackoffSeconds,
)

if t.TYPE_CHECKING:
    from sqlmesh.core.config.connection import ConnectionConfig
    from sqlmesh.core.context import GenericContext

__all__ = ["EnterpriseConfig", "RemoteCloudSchedulerConfig", "install"]

_LONGEST_POLICY = 6_000
"""Characters; it travels in a request's URL, and proxies commonly take 8 KB of one."""


class RemoteCloudSchedulerConfig(SchedulerConfig, BaseConfig):
    """Plans are submitted to the project's server and applied by its executors; state is read from the server."""

    type_: t.Literal["cloud"] = Field(alias="type", default="cloud")
    retries: Retries = None
    """How often an evaluation that failed is repeated; no more than that if it is None."""
    retry_backoff_seconds: RetryBackoffSeconds = None
    """How long it waits before each repetition."""
    evaluation_timeout_seconds: EvaluationTimeoutSeconds = None
    """After how long an evaluation is stopped; None leaves it to the executors."""
    python_version: str | None = Field(default=None, pattern=r"^3\.\d{1,2}$")
    """The Python that models run in, of those that are installed where the executors are: `3.12`."""
    models: dict[str, ModelLimits] = Field(default_factory=dict)
    """The same for single models, by their names in the project, and how many evaluations of one run at a time."""

    def create_plan_evaluator(self, context: "GenericContext[t.Any]") -> PlanEvaluator:
        """An evaluator that has the plan applied by executors and shows how it goes."""
        from tcloud.scheduler.evaluator import RemotePlanEvaluator

        return RemotePlanEvaluator(
            session=current_session(),
            console=context.console,
            state_reader=context.state_sync,
            gateway=context.selected_gateway,
            default_catalog=context.default_catalog,
            evaluation_policy=self._policy(context),
            python_version=self.python_version,
        )

    def create_state_sync(self, context: "GenericContext[t.Any]") -> StateSync:  # noqa: ARG002 (SQLMesh's signature)
        """The project's state, over HTTP."""
        from tcloud.scheduler.state import cloud_state

        return cloud_state(current_session().api)

    def get_default_catalog_per_gateway(self, context: "GenericContext[t.Any]") -> dict[str, str]:
        """The default catalogs that executors found, of the project's gateways that they serve.

        SQLMesh's own function decides which gateways have one, virtual catalogs included; the adapters it asks know
        the answers and open nothing.
        """
        served = current_session().gateways()
        ours = {name: adapter for name, adapter in context.engine_adapters.items() if name in served}
        view = t.cast("GenericContext[t.Any]", SimpleNamespace(engine_adapters=ours))
        return BuiltInSchedulerConfig().get_default_catalog_per_gateway(view)

    def state_sync_fingerprint(self, context: "GenericContext[t.Any]") -> str:  # noqa: ARG002 (SQLMesh's signature)
        """Tells one project's state from another's; says nothing else about it."""
        return sha256(current_session().api.url.encode()).hexdigest()

    def _policy(self, context: "GenericContext[t.Any]") -> EvaluationPolicy:
        models = {}
        for name, limits in self.models.items():
            model = context.get_model(name)
            if model is None:
                raise ConfigError(
                    f"scheduler: models: '{name}' is no model of this project; correct the name or take it out."
                )
            models[model.fqn] = limits
        policy = EvaluationPolicy(
            retries=self.retries,
            retry_backoff_seconds=self.retry_backoff_seconds,
            evaluation_timeout_seconds=self.evaluation_timeout_seconds,
            models=models,
        )
        if len(policy.model_dump_json(exclude_none=True)) > _LONGEST_POLICY:
            raise ConfigError(
                f"scheduler: models: {len(models)} models with values of their own are more than a plan can carry; "
                "say for all models what most of them need, and name only the others."
            )
        return policy


class EnterpriseConfig(Config):
    """SQLMesh's configuration, under the name that Python configurations for the cloud scheduler use."""


_configured_connection = Config.get_connection


def install() -> None:
    """Makes `type: cloud` known to SQLMesh, and gives gateways that have that scheduler a connection that stays shut.

    SQLMesh asks a gateway for its connection whether or not the scheduler needs one, and has no other place to answer.
    """
    SCHEDULER_CONFIG_TO_TYPE["cloud"] = RemoteCloudSchedulerConfig
    Config.get_connection = _get_connection  # type: ignore[method-assign]


def _get_connection(self: Config, gateway_name: str | None = None) -> "ConnectionConfig":
    if _is_served_by_executors(self, gateway_name):
        name = self.default_gateway_name if gateway_name is None else gateway_name
        return CloudConnectionConfig(gateway=name.lower())
    return _configured_connection(self, gateway_name)


def _is_served_by_executors(config: Config, gateway_name: str | None) -> bool:
    if isinstance(config.get_scheduler(gateway_name), RemoteCloudSchedulerConfig):
        return True
    connection = config.get_gateway(gateway_name).connection or config.default_connection
    gateways = config.gateways.values() if isinstance(config.gateways, dict) else [config.gateways]
    return connection is None and any(isinstance(g.scheduler, RemoteCloudSchedulerConfig) for g in gateways)
