"""The command line: names, help and the rendering of what verbs return.

Nothing here decides anything; `allmend.verbs` does. Commands are loaded when they are called, so that
`allmend --help` stays light.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from allmend.errors import AllmendError, Unavailable, UsageError, nearest


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with a documented code."""
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run_command(sys.argv[1:] if argv is None else argv))


def _interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends as Ctrl-C does: what is open is closed, what is half-written goes, the code is 130."""
    raise KeyboardInterrupt


def run_command(argv: Sequence[str]) -> int:
    """Run one command; returns its exit code. A traceback is shown only when `--debug` is among `argv`."""
    tokens = list(argv)
    flags = tokens[: tokens.index("--")] if "--" in tokens else tokens
    debug = "--debug" in flags
    if debug:
        tokens.remove("--debug")
        os.environ["ALLMEND_DEBUG"] = "1"
    try:
        return _dispatch(tokens)
    except AllmendError as error:
        _trace(debug)
        _show_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        _trace(debug)
        print("\nStopped. What was finished is kept.", file=sys.stderr)  # noqa: T201
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`| head`): not an error, but Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        _trace(debug)
        missing = _missing_extra(error, tokens)
        if missing is None:
            _show_bug(error)
            return 1
        _show_error(missing)
        return missing.exit_code


def _trace(debug: bool) -> None:
    """The traceback of the error at hand, before its words: the exit code stays what it is without `--debug`."""
    if debug:
        import traceback

        traceback.print_exc()


def _dispatch(tokens: list[str]) -> int:
    from cyclopts.exceptions import CycloptsError

    from allmend.cli.app import COMMANDS, app

    # Asked here, since cyclopts would import every command to find the nearest name.
    if tokens and not tokens[0].startswith("-") and tokens[0] not in COMMANDS:
        hint = nearest(tokens[0], COMMANDS) or "`allmend --help` lists the verbs."
        raise UsageError(f"there is no verb {tokens[0]!r}", hint=hint)
    try:
        result = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        raise _as_usage_error(error, tokens) from error
    return result if isinstance(result, int) else 0


def _as_usage_error(error: Exception, tokens: list[str]) -> UsageError:
    from pydantic import ValidationError

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ValidationError):
            from allmend.verbs.settings import usage_error

            return usage_error(cause, {})
        cause = cause.__cause__
    from cyclopts.exceptions import UnusedCliTokensError

    if isinstance(error, UnusedCliTokensError) and error.app is not None and error.unused_tokens:
        word, names = error.unused_tokens[0], [name for name in error.app if not name.startswith("-")]
        verb = " ".join(["allmend", *(error.command_chain or ())])
        if names:
            return UsageError(f"there is no {word!r} under `{verb}`", hint=nearest(word, names) or None)
        # A misspelt flag may have been taken for the subject, which `-` may be.
        flags = [name for argument in error.app.assemble_argument_collection() for name in argument.names]
        for given in (token.partition("=")[0] for token in tokens):
            if given.startswith("--") and given not in flags:
                return UsageError(f"there is no flag {given}", hint=nearest(given, flags) or None)
        hint = f"Settings are named (`{verb} --help`), and what has spaces stands in quotes."
        return UsageError(f"`{verb}` has no place for {word!r}", hint=hint)
    return UsageError(str(error).strip(), hint="`allmend --help` lists the verbs; `allmend VERB --help` its flags.")


def _missing_extra(error: Exception, tokens: list[str]) -> Unavailable | None:
    """What to install, when a module of an extra is missing; None for any other error."""
    if not isinstance(error, ModuleNotFoundError):
        return None
    from allmend.cli.extras import extra_for

    module = (error.name or "").partition(".")[0]
    extra = extra_for(module, tokens[0] if tokens else "")
    if extra is None:
        return None
    return Unavailable(f"this needs {module}, which is not installed", hint=f"pip install 'allmend[{extra}]'")


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
