"""Commands of hubs and services: kaggle, huggingface-cli, wandb, ollama, spacy and their relatives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allmend.planning.effects.targets import hub_name

if TYPE_CHECKING:
    from allmend.planning.effects.line import Line
    from allmend.planning.session import Session


def kaggle(session: Session, line: Line) -> None:
    """`kaggle datasets download -d OWNER/NAME`, `kaggle competitions download -c NAME`."""
    words = line.words
    if len(words) < 3:
        return
    group, verb = words[1], words[2]
    if verb in ("download", "files", "pull", "output"):
        given = line.option("-d", "--dataset", "-c", "--competition")
        places = line.positional(("-d", "--dataset", "-c", "--competition", "-p", "--path", "-f", "--file", "-w"), 3)
        at = given[0] if given else places[0] if places else None
        if at is not None:
            text = (given[1] if given else words[at]).strip("\"'")
            kind = "model" if group == "models" else "dataset"
            if verb in ("download", "pull", "output"):
                line.add(kind, at, text, prefix="kaggle:")  # type: ignore[arg-type]
                name = text.rsplit("/", 1)[-1]
                session.world.fetched[session.world.key(name + ".zip", line.cwd)] = f"kaggle:{text}"
    elif verb in ("submit", "create", "version", "push", "init") and verb != "init":
        line.fixed("send", "kaggle")


def hub(session: Session, line: Line) -> None:
    """`huggingface-cli` and `hf`."""
    words = line.words
    valued = ("--token", "--repo-type", "--revision", "--local-dir", "--include", "--exclude", "--cache-dir", "--local-dir-use-symlinks",
              "--commit-message")  # fmt: skip
    places = line.positional(valued)
    if not places:
        return
    verb = words[places[0]]
    if verb == "auth" and len(places) > 1:
        places = places[1:]
        verb = words[places[0]]
    if verb == "login":
        line.fixed("credential", "huggingface")
    elif verb == "download" and len(places) > 1:
        kind = line.option("--repo-type")
        revision = line.option("--revision")
        at = places[1]
        name = "dataset" if kind and kind[1] == "dataset" else "model"
        line.add(name, at, prefix="hf:", revision=revision[1] if revision else None)  # type: ignore[arg-type]
        folder = line.option("--local-dir")
        if folder:
            session.world.saved.add(session.world.key(folder[1], line.cwd))
    elif verb in ("upload", "upload-large-folder", "repo", "lfs-enable-largefiles"):
        line.fixed("send", "huggingface")


def wandb(session: Session, line: Line) -> None:
    """`wandb login`, `wandb sync`."""
    verb = next((word for word in line.words[1:] if not word.startswith("-")), "")
    if verb == "login":
        line.fixed("credential", "wandb")
    elif verb in ("sync", "agent", "sweep", "artifact", "launch"):
        line.fixed("send", "wandb")


def ollama(session: Session, line: Line) -> None:
    """`ollama pull NAME`, `ollama serve`."""
    words = line.words
    if len(words) > 2 and words[1] in ("pull", "run"):
        line.add("model", 2, prefix="ollama:")
    elif words[1:2] == ["serve"]:
        line.fixed("serve", "port:11434", public="no")


def spacy(session: Session, line: Line) -> None:
    """`spacy download NAME`."""
    if line.words[1:2] == ["download"] and len(line.words) > 2:
        at = next((n for n in range(2, len(line.words)) if not line.words[n].startswith("-")), None)
        if at is not None:
            line.add("model", at, prefix="spacy:")


def modelscope(session: Session, line: Line) -> None:
    """`modelscope download --model OWNER/NAME`."""
    given = line.option("--model", "--model_id", "--dataset")
    if "download" in line.words and given:
        line.add("model", given[0], prefix="modelscope:", text=given[1])


def dvc(session: Session, line: Line) -> None:
    """`dvc pull`, `dvc push`."""
    if line.words[1:2] == ["push"]:
        line.fixed("send", "dvc remote")


def tfds(session: Session, line: Line) -> None:
    """`tfds build NAME`."""
    if line.words[1:2] == ["build"] and len(line.words) > 2:
        line.add("dataset", 2, prefix="tfds:")


def tune(session: Session, line: Line) -> None:
    """torchtune's `tune download OWNER/NAME`."""
    if line.words[1:2] == ["download"] and len(line.words) > 2 and hub_name(line.words[2]):
        line.add("model", 2, prefix="hf:")
