"""The public edge of Temporal: what an executor's token may call, and the pass-through that holds it to that."""
