"""Pin every package that Tempomesh installs, for all supported Python versions at once.

`uv run python tools/pin.py` resolves the workspace to the newest versions that fit together and writes them into
`constraint-dependencies` of the root `pyproject.toml`, and the build back end's into `build-constraint-dependencies`.
A package whose version differs by Python version gets one line for each, with its marker. Names and versions only:
whoever installs decides where packages come from.

`--check` changes nothing and fails if a package that would be installed has no pin.
"""

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

__all__ = ["main"]

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


def main() -> int:
    """Write the pins, or with `--check` compare them with what would be installed; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail if the pins are not complete; change nothing")
    arguments = parser.parse_args()

    before = PYPROJECT.read_text()
    settings = tomllib.loads(before)
    if arguments.check:
        missing = sorted(set(resolve(upgrade=False)) - set(settings["tool"]["uv"]["constraint-dependencies"]))
        for requirement in missing:
            print(f"not pinned: {requirement}; run `just pin`", file=sys.stderr)  # noqa: T201
        return 1 if missing else 0

    try:
        unpinned = with_pins(before, "constraint-dependencies", [])
        PYPROJECT.write_text(unpinned)
        after = with_pins(unpinned, "constraint-dependencies", resolve(upgrade=True))
        after = with_pins(after, "build-constraint-dependencies", resolve_build(settings["build-system"]["requires"]))
    except BaseException:
        PYPROJECT.write_text(before)
        raise
    PYPROJECT.write_text(after)
    subprocess.run(["uv", "lock", "--quiet"], cwd=PYPROJECT.parent, check=True)
    return 0


def resolve(*, upgrade: bool) -> list[str]:
    """The requirement lines, markers included, of everything that the workspace and its groups install."""
    subprocess.run(["uv", "lock", "--quiet", *(["--upgrade"] if upgrade else [])], cwd=PYPROJECT.parent, check=True)
    return requirement_lines(
        "export", "--frozen", "--all-packages", "--all-groups", "--no-emit-workspace", "--no-hashes"
    )


def resolve_build(requires: list[str]) -> list[str]:
    """The requirement lines of everything that the build back end needs."""
    return requirement_lines(
        "pip", "compile", "--universal", "--python-version", "3.11", "-", given="\n".join(requires)
    )


def requirement_lines(*command: str, given: str | None = None) -> list[str]:
    """What a command of uv prints in the format of requirements files, without comments."""
    result = subprocess.run(
        ["uv", *command, "--quiet", "--no-annotate", "--no-header"],
        cwd=PYPROJECT.parent,
        check=True,
        input=given,
        stdout=subprocess.PIPE,
        text=True,
    )
    return [line.strip() for line in result.stdout.splitlines() if line.strip()]


def with_pins(pyproject: str, key: str, pins: list[str]) -> str:
    """The text of `pyproject.toml` with the list `key` replaced."""
    block = f"{key} = [\n" + "".join(f'  "{pin}",\n' for pin in pins) + "]\n"
    replaced, count = re.subn(rf"^{key} = \[\n.*?^\]\n", lambda _: block, pyproject, flags=re.DOTALL | re.MULTILINE)
    if count != 1:
        raise SystemExit(f"{PYPROJECT.name} must have exactly one list `{key}`, found {count}.")
    return replaced


if __name__ == "__main__":
    sys.exit(main())
