"""Begins a run; with atheris, so that it sees which lines of the gateway an input reaches."""

import importlib.util
import io
import sys
from contextlib import ExitStack, redirect_stderr
from importlib import import_module


def main() -> None:
    """Imports the gateway, instrumented if that can be, and runs."""
    guided = "--plain" not in sys.argv and importlib.util.find_spec("atheris") is not None
    atheris = import_module("atheris") if guided else None
    with ExitStack() as instrumenting:
        if atheris:
            instrumenting.enter_context(redirect_stderr(io.StringIO()))  # it names every module
            instrumenting.enter_context(atheris.instrument_imports(include=["mcp_sod"]))
        run = import_module("tests.fuzz.run")
    sys.exit(run.main(sys.argv[1:], atheris))


if __name__ == "__main__":
    main()
