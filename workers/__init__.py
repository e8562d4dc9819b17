"""The processes that serve Temporal's task queues: start, health, graceful stop."""
