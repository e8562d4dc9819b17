"""How an evaluation is listed, be it of a plan or of a run."""

__all__ = ["EVALUATION_FIELDS"]

EVALUATION_FIELDS = (
    "evaluation_id",
    "model",
    "interval_start",
    "interval_end",
    "batch_index",
    "status",
    "attempt",
    "executor",
    "start_at",
    "end_at",
    "error_message",
    "audits",
)
