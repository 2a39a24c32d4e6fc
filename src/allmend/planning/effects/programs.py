"""Other programs: build tools, notebooks run from a line, containers, binaries that were fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allmend.planning.effects.flags import arguments, flags
from allmend.planning.effects.scripts import run_own, script
from allmend.planning.evaluation.values import has_hole

if TYPE_CHECKING:
    from allmend.planning.effects.line import Line
    from allmend.planning.session import Session


def here(session: Session, line: Line, name: str) -> None:
    """Something in the working folder runs: foreign if the folder came from outside."""
    clone = session.world.clone_of(".", line.cwd)
    if clone is not None or session.world.source_of(".", line.cwd):
        path = session.world.resolve(name, line.cwd)
        line.add("foreign_code", 0, path, pinned=bool(clone and clone.pinned))


def make(session: Session, line: Line) -> None:
    """`make`, `cmake`, `ninja` of fetched source."""
    given = line.option("-C", "--build", "-S")
    folder = given[1] if given else "."
    if line.name == "cmake" and not given:
        places = line.positional(("-D", "-G", "-B"))
        folder = next((line.words[at] for at in places if not line.words[at].startswith("-")), ".")
    clone = session.world.clone_of(folder, line.cwd)
    if clone is not None or session.world.source_of(folder, line.cwd):
        line.add("foreign_code", 0, session.world.resolve(folder, line.cwd) or ".", pinned=bool(clone and clone.pinned))


def _notebook(session: Session, line: Line, at: int) -> None:
    """Another notebook runs, named by word `at`."""
    script(session, line.words[at], line.cwd, literal=line.exact(at), at_line=line.command.line, quiet=True)


def papermill(session: Session, line: Line) -> None:
    """`papermill notebook.ipynb`."""
    places = line.positional(("-p", "-f", "-k", "-r", "-y"))
    if places:
        _notebook(session, line, places[0])


def jupyter(session: Session, line: Line) -> None:
    """`jupyter lab`, `jupyter nbconvert --execute`."""
    from allmend.planning.effects import serving

    if line.words[1:2] in (["lab"], ["notebook"], ["server"]):
        serving.notebook(session, line)
    elif "--execute" in line.words:
        places = line.positional(("--to", "--output", "--ExecutePreprocessor.timeout"), 2)
        if places:
            _notebook(session, line, places[0])


def nvidia(session: Session, line: Line) -> None:
    """`nvidia-smi` shows that a GPU is expected."""
    from allmend.planning.effects import hardware

    hardware.need(session, "gpu", line=line.command.line)


def golang(session: Session, line: Line) -> None:
    """`go install URL`, `cargo install`."""
    if line.words[1:2] == ["install"] and len(line.words) > 2:
        at = next((n for n in range(2, len(line.words)) if not line.words[n].startswith("-")), None)
        if at is not None:
            line.add("foreign_code", at, pinned=False)


def docker(session: Session, line: Line) -> None:
    """`docker run IMAGE`, `docker pull IMAGE`."""
    if len(line.words) > 2 and line.words[1] in ("run", "pull"):
        places = line.positional(
            (
                "-v",
                "-p",
                "-e",
                "--name",
                "--network",
                "-w",
                "--gpus",
                "--volume",
                "--publish",
                "--env",
                "--shm-size",
                "--runtime",
                "--ipc",
                "-u",
                "--user",
                "--memory",
                "-m",
                "--cpus",
                "--restart",
                "--entrypoint",
                "--mount",
                "--workdir",
                "-h",
                "--platform",
            ),
            2,
        )
        for at in places[:1]:
            line.add("foreign_code", at, pinned="@sha256:" in line.words[at])
            _container(session, line, at)


def _container(session: Session, line: Line, image: int) -> None:
    """What `docker run` gives a container: ports, secrets, accelerators, and the words for the program in it."""
    from allmend.planning.effects import credentials, hardware

    for at in range(2, image):
        head, sign, tail = line.words[at].partition("=")
        value = tail if sign and head.startswith("--") else line.words[at + 1] if at + 1 < image else ""
        if head in ("-p", "--publish"):
            outside = value.split(":")[-2] if ":" in value else ""
            if outside.isdigit():
                line.fixed("serve", f"port:{outside}", public="no")
        elif head in ("-e", "--env"):
            name, _, given = value.partition("=")
            credentials.shell_variable(session, name, given)
        elif head == "--gpus":
            hardware.need(session, "gpu", line=line.command.line)
    arguments(session, line, image + 1)


def started(session: Session, line: Line) -> None:
    """A program that was fetched, or lies in a clone, is started by its path."""
    word = line.words[0]
    if "/" not in word or has_hole(word):
        return
    world = session.world
    clone = world.clone_of(word, line.cwd)
    loose = (
        session.facts.get("loose")
        and not word.startswith(("/usr", "/bin", "/opt", "~"))
        and not world.was_made(word, line.cwd)
    )
    if clone is None and world.source_of(word, line.cwd) is None and not loose:
        return
    key = world.key(word, line.cwd)
    if key in world.texts:
        return
    line.add("foreign_code", 0, world.resolve(word, line.cwd), pinned=bool(clone and clone.pinned))


def program(session: Session, line: Line) -> None:
    """Any other program: foreign if its path leads into what was fetched; its flags speak for themselves."""
    if not line.words:
        return
    word = line.words[0]
    key = session.world.key(word, line.cwd)
    if "/" in word and key in session.world.texts:
        text, cell = session.world.texts[key]
        run_own(session, word, text, cell, line.cwd, line.words[1:])
        return
    if "/" in word and word.endswith((".sh", ".py", ".run", ".bash")):
        script(session, word, line.cwd, literal=line.exact(0), words=line.words[1:], at_line=line.command.line)
    elif has_hole(word):
        return
    else:
        started(session, line)
    flags(session, line.words[1:])
