"""The whole of Tempomesh on one machine: `tcloud dev` and `tcloud quickstart`.

Embedded Temporal and PostgreSQL, and the server, the worker and the executors as child processes.
Nothing here is needed in production.
"""
