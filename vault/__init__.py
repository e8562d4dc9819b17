"""Connections of warehouses, sealed: what the server, which keeps them, and the executors, which open them, share."""
