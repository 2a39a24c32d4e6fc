"""Packages of the Python index: pip, uv, pipx, poetry, in every spelling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allmend.planning.effects.requirements import NAME, one, requirements_file
from allmend.planning.effects.targets import package
from allmend.planning.evaluation.values import has_hole

if TYPE_CHECKING:
    from allmend.planning.effects.line import Line
    from allmend.planning.session import Session

PIP_VALUED = frozenset(
    [
        "-r",
        "--requirement",
        "-c",
        "--constraint",
        "-e",
        "--editable",
        "-f",
        "--find-links",
        "-i",
        "--index-url",
        "--extra-index-url",
        "-t",
        "--target",
        "--prefix",
        "--root",
        "--platform",
        "--python-version",
        "--trusted-host",
        "--timeout",
        "--default-timeout",
        "--proxy",
        "--src",
        "--upgrade-strategy",
        "--progress-bar",
        "--no-binary",
        "--only-binary",
        "--config-settings",
        "-C",
        "--global-option",
        "--install-option",
        "--cache-dir",
        "--log",
        "--python",
        "--torch-backend",
        "-p",
        "--root-user-action",
        "--report",
        "--exclude-newer",
        "--resolution",
        "--index-strategy",
        "--index",
        "--default-index",
        "--prerelease",
        "--extra",
        "--group",
        "--implementation",
        "--abi",
        "--use-feature",
        "--use-deprecated",
        "--retries",
        "--exists-action",
        "--cert",
        "--client-cert",
        "--build-option",
        "-P",
        "--upgrade-package",
        "--reinstall-package",
        "--no-build-isolation-package",
        "--overrides",
        "--override",
        "--link-mode",
        "--refresh-package",
        "--config-setting",
        "--dry-run-never",
        "--allow-insecure-host",
        "--with-requirements",
        "--keyring-provider",
    ]
)


def pip(session: Session, line: Line) -> None:
    """`pip install ..`, `pip uninstall ..`."""
    places = line.positional(PIP_VALUED)
    if not places:
        return
    verb = line.words[places[0]]
    if verb == "uninstall":
        _uninstall(line, places[0] + 1)
    elif verb in ("install", "download", "wheel"):
        requirements(session, line, places[0] + 1)
    elif verb == "tools":
        return


def _uninstall(line: Line, start: int) -> None:
    for at in line.positional(("-r", "--requirement"), start):
        word = line.words[at]
        if has_hole(word):
            line.add("destructive", at)
        elif NAME.match(word):
            line.add("destructive", at, f"uninstall:pip:{package(NAME.match(word)[0])}")  # type: ignore[index]


def requirements(session: Session, line: Line, start: int) -> None:
    """The requirements of `pip install` from word `start` on."""
    words = line.words
    at = start
    options = _options(words, start)
    if options:
        line.install_detail = {"options": options}
    while at < len(words):
        word = words[at]
        head, sign, tail = word.partition("=")
        if word in ("-r", "--requirement") and at + 1 < len(words):
            requirements_file(session, line, at + 1, words[at + 1])
            at += 2
        elif head == "--requirement" and sign:
            requirements_file(session, line, at, tail)
            at += 1
        elif word.startswith("-r") and len(word) > 2 and not word.startswith("--"):
            requirements_file(session, line, at, word[2:])
            at += 1
        elif word in ("-e", "--editable") and at + 1 < len(words):
            one(session, line, at + 1, words[at + 1], editable=True)
            at += 2
        elif head == "--editable" and sign:
            one(session, line, at, tail, editable=True)
            at += 1
        elif word.startswith("-"):
            at += 2 if word in PIP_VALUED else 1
        else:
            if word and not word.startswith("#"):
                at = _one_or_joined(session, line, at)
            elif word.startswith("#"):
                return
            at += 1


_SOURCES = {
    "-i": "--index-url",
    "--index-url": "--index-url",
    "--default-index": "--index-url",
    "--extra-index-url": "--extra-index-url",
    "--index": "--extra-index-url",
    "-f": "--find-links",
    "--find-links": "--find-links",
    "-c": "--constraint",
    "--constraint": "--constraint",
}
_SWITCHES = ("--pre", "--no-deps")


def _options(words: list[str], start: int) -> list[str]:
    """Where a command's packages come from and how they are chosen, as `--option value`; what cannot be read is left
    out."""
    found = []
    for at in range(start, len(words)):
        word = words[at]
        head, sign, value = word.partition("=")
        if word in _SWITCHES:
            found.append(word)
        elif word in _SOURCES and at + 1 < len(words):
            found.append(f"{_SOURCES[word]} {words[at + 1]}")
        elif sign and head in _SOURCES:
            found.append(f"{_SOURCES[head]} {value}")
    return [option for option in found if not has_hole(option)]


def _one_or_joined(session: Session, line: Line, at: int) -> int:
    """`name @ URL` may be three words; `name == 1` too."""
    words = line.words
    if at + 2 < len(words) and words[at + 1] in ("@", "==", ">=", "<=", "<", ">", "~="):
        one(session, line, at, f"{words[at]} {words[at + 1]} {words[at + 2]}")
        return at + 2
    one(session, line, at, words[at])
    return at


def uv(session: Session, line: Line) -> None:
    """`uv pip install`, `uv add`, `uv run`, `uv tool install`."""
    words = line.words
    places = line.positional(PIP_VALUED)
    if not places:
        return
    verb = words[places[0]]
    if verb == "pip":
        pip(session, _from(session, line, places[0]))
    elif verb == "add":
        requirements(session, line, places[0] + 1)
    elif verb == "tool" and len(places) > 1 and words[places[1]] in ("install", "run"):
        for at in line.positional(PIP_VALUED, places[1] + 1)[:1]:
            one(session, line, at, words[at])
    elif verb == "run":
        from allmend.planning.effects import scripts

        given = line.option("--with")
        if given:
            one(session, line, given[0], given[1])
        rest = line.positional((*PIP_VALUED, "--with", "--python"), places[0] + 1)
        if rest:
            scripts.again(session, line, rest[0])


def _from(session: Session, line: Line, start: int) -> Line:
    from allmend.planning.effects.line import Line as Words

    return Words(session, line.command.tail(start), line.shell)


def uvx(session: Session, line: Line) -> None:
    """`uvx TOOL`."""
    given = line.option("--from")
    for at in [given[0]] if given else line.positional(PIP_VALUED)[:1]:
        one(session, line, at, given[1] if given else line.words[at])


def pipx(session: Session, line: Line) -> None:
    """`pipx install TOOL`."""
    places = line.positional(PIP_VALUED)
    if places and line.words[places[0]] in ("install", "run") and len(places) > 1:
        one(session, line, places[1], line.words[places[1]])


def easy(session: Session, line: Line) -> None:
    """`easy_install NAME`."""
    for at in line.positional():
        one(session, line, at, line.words[at])


def poetry(session: Session, line: Line) -> None:
    """`poetry add`, `poetry run`."""
    places = line.positional()
    if places and line.words[places[0]] == "add":
        for at in places[1:]:
            one(session, line, at, line.words[at])
    elif places and line.words[places[0]] == "run" and len(places) > 1:
        from allmend.planning.effects import scripts

        scripts.again(session, line, places[1])
