"""The part of Tempomesh that speaks SQLMesh: it imports SQLMesh and the standard library, nothing else.

It runs inside the interpreter of an environment (evaluation, plan stages), on a data engineer's machine
(state over HTTP, console replay) and inside the server (the other end of the state contract).
"""
