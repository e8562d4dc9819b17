"""Promotion that may be repeated: an executor that lost the answer asks again."""

import orjson

from server.database import Transaction

__all__ = ["promoted_already"]


def promoted_already(transaction: Transaction, body: bytes) -> bytes | None:
    """The answer to a repeated `promote`, None if the environment has yet to be promoted by this plan.

    SQLMesh refuses to promote twice (`ConflictingPlanError`), because it cannot tell a repetition from a rival plan;
    the plan's id tells.
    """
    wanted = orjson.loads(body)["environment"]
    existing = transaction.state.environment_state.get_environment(wanted["name"], lock_for_update=True)
    if existing is None or existing.plan_id != wanted["plan_id"]:
        return None
    return orjson.dumps({"added": [], "removed": []})
