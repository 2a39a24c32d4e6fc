"""Accelerators: named once a notebook, at the first cell that shows the need. Hidden cells stand here too."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from allmend.planning.evaluation.values import Member, Symbol, Value, options

if TYPE_CHECKING:
    from allmend.nouns.notebook import Cell, Notebook
    from allmend.planning.evaluation.calls import Call
    from allmend.planning.session import Session

_DEVICES = frozenset({"device", "device_map", "map_location", "device_type"})
_WORDS = frozenset({"torch.device", "jax.device_put", "torch.cuda.device"})


def from_metadata(session: Session, notebook: Notebook) -> None:
    """What the notebook's metadata asks for stands in cell -1."""
    metadata = notebook.metadata
    colab = metadata.get("colab")
    kaggle = metadata.get("kaggle")
    wanted = metadata.get("accelerator")
    model = colab.get("gpuType") if isinstance(colab, dict) else None
    if isinstance(kaggle, dict) and not wanted:
        word = str(kaggle.get("accelerator", "")).lower()
        wanted = "TPU" if word.startswith("tpu") else "GPU" if word not in ("", "none") else None
    if isinstance(model, str) and not wanted:
        wanted = "TPU" if model.upper().startswith(("V2", "V5", "V6", "TPU")) and "8" in model else "GPU"
    word = str(wanted).upper()
    if word not in ("GPU", "TPU"):
        return
    known = {"type": model} if isinstance(model, str) and model else {}
    from allmend.planning.evaluation.values import Place

    place, session.python.place = session.python.place, Place(-1, 0, ())
    session.add("hardware", word.lower(), literal=True, detail=known, line=1)
    session.facts[word.lower()] = True
    session.python.place = place


def need(session: Session, which: str, kind: str | None = None, line: int | None = None) -> None:
    """Note that an accelerator is needed, unless that is known already."""
    if session.facts.get(which):
        return
    session.facts[which] = True
    session.add("hardware", which, literal=True, detail={"type": kind} if kind else {}, line=line)


def hidden(session: Session, index: int, cell: Cell) -> None:
    """A code cell that the page shows without its source."""
    if not cell.hidden or not cell.source.strip():
        return
    from allmend.planning.evaluation.values import Place

    place, session.python.place = session.python.place, Place(index, 0, tuple(cell.source.split("\n")[:3]))
    session.add("hidden_code", "cell", literal=True, line=1)
    session.python.place = place


def on_call(session: Session, call: Call) -> None:
    """`.cuda()` and the like stand in the tables; here are the devices that are named as text."""
    last = call.path.rpartition(".")[2]
    if call.path in _WORDS or last == "to":
        for value in call.args[:1]:
            _device(session, value)
    for name, value in call.keywords.items():
        if name in _DEVICES:
            _device(session, value)
        elif name in ("gpus", "use_gpu", "use_cuda", "num_gpus", "n_gpu") and _true(value):
            need(session, "gpu")
        elif name == "accelerator" and isinstance(value, str) and value.lower() in ("gpu", "cuda", "tpu"):
            need(session, "tpu" if value.lower() == "tpu" else "gpu")
        elif name in ("load_in_4bit", "load_in_8bit") and value is True and not session.facts.get("gpu"):
            need(session, "gpu")


def _true(value: Value) -> bool:
    return value is True or (isinstance(value, int) and value not in (0, False))


def _device(session: Session, value: Any) -> None:
    for _, option in options(value):
        if isinstance(option, Member | Symbol):
            continue
        if isinstance(option, dict):
            if any(isinstance(v, int) and not isinstance(v, bool) for v in option.values()):
                need(session, "gpu")
        elif isinstance(option, str):
            word = option.replace("\U000f0002", "").lower()
            if word.startswith(("cuda", "gpu")):
                need(session, "gpu")
            elif word.startswith(("tpu", "xla")):
                need(session, "tpu")


def on_constant(session: Session, node: ast.expr, value: Value) -> None:
    """A variable named for a device that is given one: `device = "cuda"`."""
    _device(session, value)
