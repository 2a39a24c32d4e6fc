"""Files of weights: safetensors and GGUF by their headers, pickles by their opcodes. Nothing is loaded."""

from __future__ import annotations

from pathlib import Path

from allmend.planning.models import headers, pickles
from allmend.planning.models.gathered import Gathered
from allmend.planning.models.texts import read_licence, read_template

PICKLED = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib", ".dill", ".npy", ".npz")
"""Endings of formats that can run code."""
WEIGHTS = (".safetensors", ".gguf", *PICKLED)


def read_weights(found: Gathered, path: Path) -> None:
    """Gather what one file of weights is: its header or its opcodes, never its tensors."""
    size = path.stat().st_size
    found.size += size
    _digest(found, path)
    with path.open("rb") as file:
        start = file.read(8)
    suffix = path.suffix.lower()
    if start[:4] == b"GGUF" or suffix == ".gguf":
        header = headers.gguf(path)
        _gguf(found, path, header)
    elif suffix == ".safetensors":
        header = headers.safetensors(path)
        _say(found, path, header)
        for key in ("ss_sd_model_name", "ss_base_model_version", "base_model"):
            if key in header.metadata:
                found.why.append(f"It says that it was made from {header.metadata[key][:120]!r}.")
                break
    elif start[:6] == b"\x93NUMPY":
        _numpy(found, path)
    else:
        _pickle(found, path)


def _digest(found: Gathered, path: Path) -> None:
    with path.open("rb") as file:
        while part := file.read(2**20):
            found.digest.update(part)


def _say(found: Gathered, path: Path, header: headers.Header) -> None:
    found.parameters += header.parameters
    if header.types:
        kinds = ", ".join(sorted(header.types, key=lambda kind: -header.types[kind])[:3])
        found.why.append(f"{path.name}: {header.format}, {header.parameters / 1e6:,.1f} million numbers as {kinds}.")
    if header.problems:
        found.finding(
            "lying-header", "danger", f"{path.name} is not what its header says",
            "; ".join(header.problems[:3]) + ". A reader that trusts such a header can be led to read or write out of bounds.",
            "Do not load it; fetch it again from its source and compare digests.",
        )  # fmt: skip


def _gguf(found: Gathered, path: Path, header: headers.Header) -> None:
    _say(found, path, header)
    template = header.metadata.get("tokenizer.chat_template")
    if isinstance(template, str):
        read_template(found, path.name, template)
    licence = header.metadata.get("general.license")
    if isinstance(licence, str):
        read_licence(found, licence)
    for key in ("general.base_model.0.name", "general.name"):
        if isinstance(header.metadata.get(key), str):
            found.why.append(f"It says that it is {header.metadata[key][:120]!r}.")
            break


def _numpy(found: Gathered, path: Path) -> None:
    if any(True for _ in pickles.of_file(path)):
        _pickle(found, path)
    found.why.append(f"{path.name}: an array of NumPy.")


def _pickle(found: Gathered, path: Path) -> None:
    dangerous: list[str] = []
    unusual: list[str] = []
    cut = False
    for name, codes in pickles.of_file(path):
        if codes.unread:
            cut = True
            found.skip(f"{path.name}: {name}: {codes.unread}")
        dangerous.extend(pickles.dangerous(codes))
        unusual.extend(pickles.unusual(codes))
    found.effect("unpickle", path.name, imports=sorted({*dangerous, *unusual})[:50])
    if dangerous:
        found.finding(
            "pickle-runs-programs", "danger", f"Loading {path.name} runs {', '.join(sorted(set(dangerous))[:3])}",
            "A pickle is a program; this one calls things that no weights need. It runs the moment the file is loaded.",
            "Do not load it. Delete it, or keep it only to show to whoever published it.",
        )  # fmt: skip
    elif unusual:
        found.finding(
            "pickle-imports-packages", "warning", f"Loading {path.name} imports {', '.join(sorted(set(unusual))[:3])}",
            "Besides tensors it names classes of other packages; their code runs as the file is loaded.",
            "Ask for safetensors, or load with weights_only=True and see whether it needs more.",
        )  # fmt: skip
    elif cut:
        found.finding(
            "pickle-not-read", "warning", f"{path.name} is a pickle that could not be read to its end",
            "What could be read of it names nothing but tensors and plain values; the rest is not known to be harmless.",
            "Load it with weights_only=True only, or ask for safetensors.",
        )  # fmt: skip
    else:
        found.finding(
            "pickle-format", "note", f"{path.name} is a pickle, a format that can run code",
            "Its opcodes name nothing but tensors and plain values. A changed file could name anything.",
            "Prefer safetensors where it is offered; load this one with weights_only=True.",
        )  # fmt: skip
