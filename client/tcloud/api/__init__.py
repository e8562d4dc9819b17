"""HTTP clients of the server, one for each kind of caller."""
