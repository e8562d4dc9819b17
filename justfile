# What a contributor types: `uv run just <recipe>`.

# Show the recipes.
default:
    @just --list --unsorted

# Install everything, at the pinned versions.
setup:
    uv sync

# All tests.
test *ARGS:
    uv run pytest {{ARGS}}

# Only the tests that start no server.
test-fast *ARGS:
    uv run pytest tests/unit {{ARGS}}

# Lint, without changing anything.
lint:
    uv run ruff check
    uv run ruff format --check

# Type-check all of it, strictly.
types:
    uv run mypy

# Check who may import whom.
contracts:
    uv run lint-imports

# Rewrite what a tool can put right.
format:
    uv run ruff check --fix
    uv run ruff format

# Send the server what nobody should: many examples of each call (continuous integration tries a few).
fuzz EXAMPLES="300":
    TEMPOMESH_FUZZ_EXAMPLES={{EXAMPLES}} uv run pytest -n0 --timeout 7200 tests/integration/server/test_fuzz.py

# Ask a database of vulnerabilities, over the internet, for known ones of the pinned packages.
audit:
    uv run python tools/audit.py

# Lint, types, contracts and tests, as continuous integration does it.
check:
    .ci/run

# Move every pinned version to the newest that fits.
pin:
    uv run python tools/pin.py

# The whole stack in the foreground; data stays in .tempomesh.
dev *ARGS:
    uv run tcloud dev --data-dir .tempomesh {{ARGS}}

# The whole job once, on a throwaway stack.
quickstart *ARGS:
    uv run tcloud quickstart {{ARGS}}

# Side by side with SQLMesh's built-in scheduler, e.g. `just bench idle-200 --rounds 5`.
bench *ARGS:
    uv run python -m benchmarks {{ARGS}}
