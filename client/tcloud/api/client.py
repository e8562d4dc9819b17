"""What a person's machine asks of the server: one method for each call."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from tcloud.api.answers import understood
from tcloud.api.events import StreamEvent, follow
from tcloud.api.transport import ApiTransport
from tcloud.wire.audit_log import AuditEntry
from tcloud.wire.connections import Connection, ConnectionRequest, ConnectionTestRequest
from tcloud.wire.environments import Environment, Schedule
from tcloud.wire.executors import Bootstrap, ControlWorker, Executor, Gateway
from tcloud.wire.grants import Grant, GrantRequest, Permissions
from tcloud.wire.identities import IdentityRecord, IdentityRequest, Revealed
from tcloud.wire.pauses import Pause
from tcloud.wire.pausing import ModelPauseRequest, PauseAnswer, PauseRequest, ResumeAnswer, ResumeRequest
from tcloud.wire.plans import Plan
from tcloud.wire.policies import EvaluationPolicy
from tcloud.wire.pythons import PythonOfEnvironment
from tcloud.wire.queries import Query, QueryRequest
from tcloud.wire.runs import Evaluation, Run, RunOptions

__all__ = ["Api"]


class Api(ApiTransport):
    """Synchronous client for one project.

    Every method raises one of `tcloud.errors`: `NotReachableError` if there is no answer, `NotAllowedError` if the
    token is missing or wrong or what is granted is not enough, otherwise `NotFoundError`, `ConflictError`,
    `InvalidError` or `ServerFailedError`.
    """

    def bootstrap(self) -> Bootstrap:
        """The project, the server's versions, and its gateways."""
        return self._one(Bootstrap, "bootstrap")

    def gateways(self) -> list[Gateway]:
        """The gateways that live executors serve."""
        return self._many(Gateway, "gateways")

    def state(self, method: str, body: bytes) -> bytes:
        """One call of the state contract (`tempomesh_runner.state`), JSON in and out."""
        return self._send("POST", f"state/{method}", content=body).content

    def submit_plan(
        self,
        plan: str,
        *,
        gateway: str,
        default_catalog: str | None,
        sqlmesh_version: str,
        evaluation_policy: EvaluationPolicy | None = None,
        python_version: str | None = None,
    ) -> Plan:
        """Submits an `EvaluatablePlan` as SQLMesh's JSON; the same plan again changes nothing.

        Args:
            plan: The plan's own `.json()`.
            gateway: The gateway that was selected when the plan was made.
            default_catalog: That gateway's default catalog.
            sqlmesh_version: The version that made the plan.
            evaluation_policy: What the project asks of evaluations.
            python_version: The Python that the project asks for.
        """
        params = {"gateway": gateway, "sqlmesh_version": sqlmesh_version}
        if default_catalog is not None:
            params["default_catalog"] = default_catalog
        if evaluation_policy is not None:
            params["evaluation_policy"] = evaluation_policy.model_dump_json(exclude_none=True, exclude_defaults=True)
        if python_version is not None:
            params["python_version"] = python_version
        answer = self._send("POST", "plans", content=plan.encode(), params=params)
        return understood(Plan.model_validate_json, answer, self.url)

    def plans(self, environment: str | None = None, limit: int | None = None) -> list[Plan]:
        """Plans, newest first."""
        return self._many(Plan, "plans", environment=environment, limit=limit)

    def plan(self, plan_id: str) -> Plan:
        """One plan with its stages."""
        return self._one(Plan, f"plans/{_segment(plan_id)}")

    def plan_evaluations(self, plan_id: str, model: str | None = None) -> list[Evaluation]:
        """A plan's evaluations with their logs, in the order in which they started; with `model` those of one model."""
        return self._many(Evaluation, f"plans/{_segment(plan_id)}/evaluations", model=model)

    def cancel_plan(self, plan_id: str) -> Plan:
        """Asks for a plan to be stopped."""
        return understood(Plan.model_validate_json, self._send("POST", f"plans/{_segment(plan_id)}/cancel"), self.url)

    def plan_events(self, plan_id: str) -> Iterator[StreamEvent]:
        """Everything that SQLMesh's console was told while the plan was applied, and how it ended."""
        return follow(self._http, f"plans/{_segment(plan_id)}/events")

    def start_run(self, options: RunOptions) -> Run:
        """Starts a run by hand."""
        return understood(
            Run.model_validate_json, self._send("POST", "runs", content=options.model_dump_json().encode()), self.url
        )

    def runs(
        self,
        environment: str | None = None,
        limit: int | None = None,
        *,
        statuses: Sequence[str] = (),
        model: str | None = None,
        trigger: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Run]:
        """Runs, newest first.

        Args:
            environment: Only runs of this one.
            limit: How many at most.
            statuses: Only runs with one of them; empty for all.
            model: Only runs with an evaluation of this model.
            trigger: Only runs that were started so.
            since: Only runs that started then or later.
            until: Only runs that started before.
        """
        return self._many(
            Run,
            "runs",
            environment=environment,
            limit=limit,
            status=statuses,
            model=model,
            trigger=trigger,
            since=None if since is None else since.isoformat(),
            until=None if until is None else until.isoformat(),
        )

    def run(self, run_id: str) -> Run:
        """One run with its evaluations."""
        return self._one(Run, f"runs/{_segment(run_id)}")

    def run_evaluations(self, run_id: str, model: str | None = None) -> list[Evaluation]:
        """A run's evaluations with their logs, in the order in which they started; with `model` those of one model."""
        return self._many(Evaluation, f"runs/{_segment(run_id)}/evaluations", model=model)

    def evaluation(self, evaluation_id: str) -> Evaluation:
        """One evaluation of a run or plan, with its log."""
        return self._one(Evaluation, f"evaluations/{_segment(evaluation_id)}")

    def model_history(self, model: str, environment: str | None = None, limit: int | None = None) -> list[Evaluation]:
        """A model's evaluations over all runs and plans, newest first, without their logs."""
        return self._many(Evaluation, "evaluations", model=model, environment=environment, limit=limit)

    def cancel_run(self, run_id: str) -> Run:
        """Asks for a run to be stopped."""
        return understood(Run.model_validate_json, self._send("POST", f"runs/{_segment(run_id)}/cancel"), self.url)

    def run_events(self, run_id: str) -> Iterator[StreamEvent]:
        """Everything that SQLMesh's console was told during a run, and how it ended."""
        return follow(self._http, f"runs/{_segment(run_id)}/events")

    def environments(self) -> list[Environment]:
        """The project's environments."""
        return self._many(Environment, "environments")

    def environment(self, name: str) -> Environment:
        """One environment."""
        return self._one(Environment, f"environments/{_segment(name)}")

    def python_of_environment(self, name: str) -> PythonOfEnvironment:
        """What the models of an environment run in, and why."""
        return self._one(PythonOfEnvironment, f"environments/{_segment(name)}/python")

    def invalidate_environment(self, name: str) -> None:
        """Lets an environment expire now, so that the janitor removes it."""
        self._send("POST", f"environments/{_segment(name)}/invalidate")

    def schedule_environment(self, name: str) -> Environment:
        """Lets an environment's models run by themselves."""
        return Environment.model_validate_json(self._send("POST", f"environments/{_segment(name)}/schedule").content)

    def unschedule_environment(self, name: str) -> Environment:
        """Lets an environment's models run only when somebody says so."""
        return Environment.model_validate_json(self._send("POST", f"environments/{_segment(name)}/unschedule").content)

    def pause_environment(self, name: str, request: PauseRequest) -> PauseAnswer:
        """Pauses an environment."""
        return self._changed(PauseAnswer, "POST", f"environments/{_segment(name)}/pause", request)

    def resume_environment(self, name: str, *, catch_up: bool) -> ResumeAnswer:
        """Ends the pause of an environment."""
        request = ResumeRequest(catch_up=catch_up)
        return self._changed(ResumeAnswer, "POST", f"environments/{_segment(name)}/resume", request)

    def pauses(self, environment: str | None = None) -> list[Pause]:
        """The pauses in force."""
        return self._many(Pause, "pauses", environment=environment)

    def pause_models(self, request: ModelPauseRequest) -> PauseAnswer:
        """Pauses models of an environment."""
        return self._changed(PauseAnswer, "POST", "pauses", request)

    def delete_pause(self, pause_id: str, *, catch_up: bool) -> ResumeAnswer:
        """Ends a pause."""
        answer = self._send("DELETE", f"pauses/{_segment(pause_id)}", params={"catch_up": catch_up})
        return understood(ResumeAnswer.model_validate_json, answer, self.url)

    def audit_log(
        self,
        *,
        actor: str | None = None,
        action: str | None = None,
        subject: str | None = None,
        allowed: bool | None = None,
        limit: int | None = None,
    ) -> list[AuditEntry]:
        """Who did what, or was not allowed to, newest first."""
        return self._many(
            AuditEntry, "audit-log", actor=actor, action=action, subject=subject, allowed=allowed, limit=limit
        )

    def grants(self, identity_id: str | None = None) -> list[Grant]:
        """The project's grants, of one identity or of all."""
        return self._many(Grant, "grants", identity_id=identity_id)

    def add_grant(self, request: GrantRequest) -> Grant:
        """Grants something; what is granted already is left as it is."""
        return self._changed(Grant, "POST", "grants", request)

    def remove_grant(self, grant_id: str) -> Grant:
        """Takes a grant back."""
        return understood(Grant.model_validate_json, self._send("DELETE", f"grants/{_segment(grant_id)}"), self.url)

    def permissions(self) -> Permissions:
        """What the caller may do."""
        return self._one(Permissions, "permissions")

    def submit_query(self, request: QueryRequest) -> Query:
        """Has an executor answer a question, or the janitor do its work; the same request again changes nothing."""
        answer = self._send("POST", "queries", content=request.model_dump_json().encode())
        return understood(Query.model_validate_json, answer, self.url)

    def query_events(self, query_id: str) -> Iterator[StreamEvent]:
        """What SQLMesh's console was told meanwhile, and how it ended."""
        return follow(self._http, f"queries/{_segment(query_id)}/events")

    def query_answer(self, query_id: str) -> Any:
        """The answer to a question that was answered."""
        return self._send("GET", f"queries/{_segment(query_id)}/answer").json()

    def cancel_query(self, query_id: str) -> None:
        """Asks for a question to be dropped, and its query in the warehouse to be stopped."""
        self._send("POST", f"queries/{_segment(query_id)}/cancel")

    def forget_query(self, query_id: str) -> None:
        """Has the server throw away what was asked and answered."""
        self._send("DELETE", f"queries/{_segment(query_id)}")

    def connections(self) -> list[Connection]:
        """The connections of the project's vault, without what is in them."""
        return self._many(Connection, "connections")

    def connection(self, gateway: str) -> Connection:
        """The connection of one gateway."""
        return self._one(Connection, f"connections/{_segment(gateway)}")

    def put_connection(self, gateway: str, request: ConnectionRequest) -> Query:
        """Has an executor test a connection, which is kept if the test succeeds."""
        return self._changed(Query, "PUT", f"connections/{_segment(gateway)}", request)

    def test_connection(self, gateway: str, request: ConnectionTestRequest) -> Query:
        """Has an executor test the connection of a gateway."""
        return self._changed(Query, "POST", f"connections/{_segment(gateway)}/test", request)

    def delete_connection(self, gateway: str, *, force: bool) -> Connection:
        """Deletes the connection of a gateway."""
        answer = self._send("DELETE", f"connections/{_segment(gateway)}", params={"force": force})
        return understood(Connection.model_validate_json, answer, self.url)

    def import_state(self, file: bytes, *, replace: bool) -> None:
        """Imports a file of `sqlmesh state export`.

        Args:
            file: The file's content.
            replace: Whether the state is emptied first; it is merged otherwise.
        """
        self._send("POST", "state-import", content=file, params={"replace": replace})

    def schedules(self) -> list[Schedule]:
        """The schedules that Temporal keeps for the project."""
        return self._many(Schedule, "schedules")

    def executors(self) -> list[Executor]:
        """Executors that were seen lately."""
        return self._many(Executor, "executors")

    def control_workers(self) -> list[ControlWorker]:
        """Control workers that Temporal has heard of lately; without one, plans and runs wait."""
        return self._many(ControlWorker, "control-workers")

    def clients(self) -> list[IdentityRecord]:
        """The services that may sign in at the server."""
        return self._many(IdentityRecord, "clients")

    def create_client(self, request: IdentityRequest) -> Revealed:
        """Makes a service."""
        return self._changed(Revealed, "POST", "clients", request)

    def rotate_client(self, name: str) -> Revealed:
        """Gives a service a new secret."""
        answer = self._send("POST", f"clients/{_segment(name)}/rotate")
        return understood(Revealed.model_validate_json, answer, self.url)

    def delete_client(self, name: str) -> None:
        """Deletes a service."""
        self._send("DELETE", f"clients/{_segment(name)}")

    def accounts(self) -> list[IdentityRecord]:
        """The people who may sign in at the server."""
        return self._many(IdentityRecord, "accounts")

    def create_account(self, request: IdentityRequest) -> Revealed:
        """Makes a person's account."""
        return self._changed(Revealed, "POST", "accounts", request)

    def reset_password(self, name: str) -> Revealed:
        """Gives a person a password that is good once."""
        answer = self._send("POST", f"accounts/{_segment(name)}/reset-password")
        return understood(Revealed.model_validate_json, answer, self.url)

    def disable_account(self, name: str) -> None:
        """Shuts a person out."""
        self._send("POST", f"accounts/{_segment(name)}/disable")

    def enable_account(self, name: str) -> None:
        """Lets a person in again."""
        self._send("POST", f"accounts/{_segment(name)}/enable")

    def delete_account(self, name: str) -> None:
        """Deletes a person's account."""
        self._send("DELETE", f"accounts/{_segment(name)}")


def _segment(text: str) -> str:
    return quote(text, safe="")
