"""The command line: names, help and the rendering of what verbs return.

Nothing here decides anything; `allmend.verbs` does. Commands are loaded when they are called, so that
`allmend --help` stays light.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from allmend.errors import AllmendError, UsageError


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with a documented code."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """Run one command; returns its exit code and never shows a traceback unless `--debug` is among `argv`."""
    tokens = list(argv)
    flags = tokens[: tokens.index("--")] if "--" in tokens else tokens
    debug = "--debug" in flags
    if debug:
        tokens.remove("--debug")
        os.environ["ALLMEND_DEBUG"] = "1"
    try:
        return _dispatch(tokens)
    except AllmendError as error:
        if debug:
            raise
        _show_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        if debug:
            raise
        print("\nStopped. What was finished is kept.", file=sys.stderr)  # noqa: T201
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`| head`): not an error, but Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        _show_bug(error)
        return 1


def _dispatch(tokens: list[str]) -> int:
    from cyclopts.exceptions import CycloptsError

    from allmend.cli.app import app

    try:
        result = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        raise _as_usage_error(error) from error
    return result if isinstance(result, int) else 0


def _as_usage_error(error: Exception) -> UsageError:
    from pydantic import ValidationError

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ValidationError):
            from allmend.verbs.settings import usage_error

            return usage_error(cause, {})
        cause = cause.__cause__
    return UsageError(str(error).strip(), hint="`allmend --help` lists the verbs; `allmend VERB --help` its flags.")


def _show_error(error: AllmendError) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True)
    line = Text("error: ", style="bold red")
    if error.where:
        line.append(f"{error.where}: ", style="bold")
    line.append(error.message, style="default")
    console.print(line)
    if error.hint:
        console.print(Text(f"  next: {error.hint}"))


def _show_bug(error: Exception) -> None:
    print(  # noqa: T201
        f"error: something went wrong inside allmend ({type(error).__name__}: {error}).\n"
        "  next: run it again with --debug to see where, and report it with that output.",
        file=sys.stderr,
    )
