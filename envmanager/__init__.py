"""Runner processes: user code and warehouse connections live there, outside the worker that talks to Temporal."""
