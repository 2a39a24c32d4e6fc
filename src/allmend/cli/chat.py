"""`allmend chat`."""

from __future__ import annotations

import sys
import unicodedata
from typing import Annotated

from cyclopts import Parameter

from allmend.cli.serve import show_choice, show_progress
from allmend.cli.show import notes, out
from allmend.errors import AllmendError
from allmend.verbs.chat import Chat, ChatSettings, Voice, chat

_HELP = "/exit ends, /new begins anew, /help shows this. Anything else is said to the model."


def command(
    model: str,
    /,
    *,
    settings: Annotated[ChatSettings, Parameter(name="*")] = ChatSettings(),  # noqa: B008
) -> int:
    """Talk to a model in the terminal; with an adapter, hear the model and the adapter one after the other.

    Lines can also come through a pipe: each is said in turn.

    Parameters
    ----------
    model
        A name from `allmend models`, OWNER/NAME on a hub, a folder, a .gguf file.
    """
    with chat(model, **dict(settings), progress=show_progress(), note=show_choice) as conversation:
        for voice in conversation.voices:
            notes().print(f"  {voice.name} answers with the template {voice.template}", style="dim", markup=False)
        if sys.stdin.isatty():
            notes().print(_HELP)
        return _talk(conversation)


def _talk(conversation: Chat) -> int:
    """Say each line; a line that cannot be answered is told, and decides the exit code of a pipe."""
    code = 0
    interactive = sys.stdin.isatty()
    while (line := _read(interactive)) is not None:
        text = line.strip()
        if text in ("/exit", "/quit"):
            break
        if text == "/new":
            for voice in conversation.voices:
                voice.forget()
        elif text == "/help":
            notes().print(_HELP)
        elif text:
            for voice in conversation.voices:
                try:
                    _answer(voice, text, named=len(conversation.voices) > 1)
                except AllmendError as error:
                    notes().print(f"error: {error.message}", style="red", markup=False)
                    code = 0 if interactive else error.exit_code
    return code


def _read(interactive: bool) -> str | None:
    if not interactive:
        return sys.stdin.readline() or None
    try:
        return input("> ")
    except EOFError:
        return None


def _answer(voice: Voice, text: str, *, named: bool) -> None:
    if named:
        out().print(f"{voice.name}:", style="bold", end=" ", markup=False)
    pieces = voice.say(text)
    try:
        for piece in pieces:
            # Straight to the stream: a model's text is neither markup nor to be wrapped.
            sys.stdout.write(_harmless(piece))
            sys.stdout.flush()
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
        notes().print(" (stopped)", style="dim")
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
        sys.stdout.write("\n")
        sys.stdout.flush()


def _harmless(text: str) -> str:
    """Without control characters: a model must not move the cursor or retitle the terminal."""
    return "".join(each for each in text if each in "\n\t" or unicodedata.category(each) != "Cc")
