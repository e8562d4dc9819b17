"""Types of everything that crosses the HTTP boundary between clients, executors and the server.

The server imports these modules too: one definition of each message, no second spelling of a field.
Times are timezone-aware UTC datetimes; intervals are half-open and in milliseconds since the epoch,
as SQLMesh keeps them.
"""
