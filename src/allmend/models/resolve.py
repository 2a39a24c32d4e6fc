"""From a reference to the model's folder or file, fetched and verified."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from allmend.errors import FetchError, InputError, NotFound, Refused, Unavailable
from allmend.models.catalogue import catalogue
from allmend.models.digests import file_digest
from allmend.models.fetch import Progress, fetch
from allmend.models.reference import parse
from allmend.nouns.model import Format, Model, ModelRef

# What a causal language model needs; pickled weights are left where they are.
_HUB_FILES = [
    "*.json",
    "*.safetensors",
    "*.txt",
    "*.model",
    "*.jinja",
    "LICENSE*",
    "NOTICE*",
    "README.md",
    "*.gguf",
    # How a sentence-transformers model pools.
    "*_Pooling/config.json",
]
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


def resolve(ref: str | ModelRef, progress: Progress | None = None) -> Model:
    """Find a model, fetch it if it is not here, and say what it is.

    Raises:
        NotFound, FetchError, DoesNotFit: it cannot be had.
        InputError: what is there is not a model that can be loaded without running foreign code.
        Refused: the hub wants a login or an accepted licence.
    """
    ref = parse(ref) if isinstance(ref, str) else ref
    if ref.source == "catalogue":
        return _from_catalogue(ref, progress)
    if ref.source == "hub":
        return _from_hub(ref)
    if ref.source == "file":
        path = Path(ref.name).expanduser().absolute()
        return (_voice if path.suffix == ".onnx" else _gguf)(path, name=path.stem, source="file")
    return _from_folder(Path(ref.name).expanduser().absolute(), name=ref.name, source="folder")


def _from_catalogue(ref: ModelRef, progress: Progress | None) -> Model:
    entry = catalogue().models[ref.name]
    path = fetch("models", ref.name, entry, progress)
    return Model(
        name=ref.name,
        source="catalogue",
        format=entry.format,
        path=path if entry.format in ("gguf", "onnx") else path.parent,
        digest=entry.sha256,
        licence=entry.licence,
        licence_file=path.with_name(entry.licence_file) if entry.licence_file else None,
        terms=entry.terms,
        base=entry.base,
        size=entry.size,
    )


def _from_hub(ref: ModelRef) -> Model:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        asked: dict[str, Any] = {"revision": ref.revision, "endpoint": ref.endpoint}
        folder = snapshot_download(ref.name, allow_patterns=_HUB_FILES, **asked)
        if any(Path(folder).glob("vocabulary.*")) and not any(Path(folder).glob("*.safetensors")):
            # CTranslate2's weights, which share their file's name with pickled ones: opened only if they are.
            folder = snapshot_download(ref.name, allow_patterns=[*_HUB_FILES, "model.bin"], **asked)
    except GatedRepoError:
        raise Refused(
            f"{ref} asks you to accept its licence and log in first",
            hint="Accept it on the model's page, then set HF_TOKEN or log in with the hub's own client.",
        ) from None
    except RevisionNotFoundError:
        raise NotFound(
            f"{ref.name} has no revision {ref.revision!r}", hint="Check the branch, tag or commit."
        ) from None
    except RepositoryNotFoundError:
        raise NotFound(
            f"the hub has no model {ref.name} (or it is private and you are not logged in)",
            hint="Check the spelling; a private one needs HF_TOKEN.",
        ) from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        raise NotFound(
            f"{ref} is not in the local cache and the hub was not asked or did not answer",
            hint="Check the network, HF_ENDPOINT and HF_HUB_OFFLINE; `allmend models` lists what is here.",
        ) from None
    except HfHubHTTPError as error:
        raise FetchError(f"the hub answered for {ref}: {error}") from None
    except (OSError, ValueError) as error:
        raise FetchError(f"{ref} could not be fetched: {error}") from None
    # The snapshot's folder is named after the commit that the revision stood for.
    return _from_folder(Path(folder), name=str(ref), source="hub", revision=Path(folder).name)


def _from_folder(folder: Path, *, name: str, source: Any, revision: str | None = None) -> Model:
    if (folder / "adapter_config.json").is_file():
        raise InputError(
            "this folder holds an adapter, not a model",
            where=str(folder),
            hint="Name the base model, and give the adapter with --adapter NAME=FOLDER.",
        )
    if is_whisper(folder):
        return Model(
            name=name,
            source=source,
            format="ctranslate2",
            path=folder,
            digest=file_digest(folder / "model.bin"),
            revision=revision,
            licence=_card_licence(folder),
            size=(folder / "model.bin").stat().st_size,
        )
    config_file = folder / "config.json"
    weights = sorted(folder.glob("*.safetensors"))
    if not config_file.is_file() or not weights:
        gguf = sorted(folder.glob("*.gguf"))
        if len(gguf) == 1:
            return _gguf(gguf[0], name=name, source=source, revision=revision)
        raise InputError(_why_no_model(folder, config_file, weights, gguf), where=str(folder), hint=_HINT)
    config = _config(config_file)
    if not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        raise InputError(
            "this model has no tokenizer",
            where=str(folder),
            hint=f"One of {', '.join(_TOKENIZER_FILES[:3])} should lie beside config.json.",
        )
    return Model(
        name=name,
        source=source,
        format="safetensors",
        path=folder,
        digest=_folder_digest(folder),
        revision=revision,
        licence=_card_licence(folder),
        base=config.get("_name_or_path") or None,
        size=sum(path.stat().st_size for path in weights),
    )


def is_whisper(folder: Path) -> bool:
    """Whether this is a Whisper model as CTranslate2 writes it: tensors after a header, nothing that could run."""
    try:
        with (folder / "model.bin").open("rb") as handle:
            head = handle.read(64)
    except OSError:
        return False
    # A version, then the specification's name with its length before it.
    return b"WhisperSpec" in head[4:32] and any(folder.glob("vocabulary.*"))


_HINT = "A model is a folder with config.json, .safetensors weights and a tokenizer, or one .gguf file."


def _why_no_model(folder: Path, config: Path, weights: list[Path], gguf: list[Path]) -> str:
    if len(gguf) > 1:
        return f"this folder holds {len(gguf)} .gguf files; name one of them: {', '.join(p.name for p in gguf[:4])}"
    pickled = [path.name for path in folder.iterdir() if path.suffix in {".bin", ".pt", ".pth", ".ckpt"}]
    if pickled and not weights:
        return f"its weights ({pickled[0]}) are in a format that can run code, which is not opened"
    if not config.is_file():
        return "there is no config.json here"
    return "there are no .safetensors weights here"


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text("utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it is not an object")
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"the model's configuration cannot be read: {error}", where=str(path)) from None
    if config.get("auto_map"):
        raise Unavailable(
            "this model brings its own Python code, which allmend does not run",
            where=str(path),
            hint="Look for a version of it in the transformers library, or a .gguf of it.",
        )
    return config


_ADAPTER = b"general.type" + struct.pack("<IQ", 8, 7) + b"adapter"
"""The entry of a GGUF header that says so: key, type (8: text), length, text."""


def _gguf(path: Path, *, name: str, source: Any, revision: str | None = None) -> Model:
    with path.open("rb") as handle:
        if handle.read(4) != b"GGUF":
            raise InputError(
                "this is not a GGUF file", where=str(path), hint="It may have been cut short: fetch it again."
            )
        if _ADAPTER in handle.read(1 << 16):
            raise InputError(
                "this GGUF file is an adapter, not a model",
                where=str(path),
                hint="Give its model, and the adapter as its PEFT folder beside it: --adapter NAME=FOLDER.",
            )
    format_: Format = "gguf"
    return Model(
        name=name,
        source=source,
        format=format_,
        path=path,
        digest=file_digest(path),
        revision=revision,
        size=path.stat().st_size,
    )


def _voice(path: Path, *, name: str, source: Any) -> Model:
    """A Piper voice: an ONNX file with its description beside it."""
    if not path.with_name(path.name + ".json").is_file():
        raise InputError(
            "this voice has no description beside it",
            where=str(path),
            hint=f"A Piper voice is two files: {path.name} and {path.name}.json.",
        )
    return Model(name=name, source=source, format="onnx", path=path, digest=file_digest(path), size=path.stat().st_size)


def _folder_digest(folder: Path) -> str:
    """SHA-256 of the sorted lines `NAME SHA-256` of the files that make the model what it is."""
    files = [path for path in folder.iterdir() if path.suffix in {".json", ".safetensors", ".model", ".txt", ".jinja"}]
    # How a sentence-transformers model pools decides what its vectors are.
    files += folder.glob("*_Pooling/config.json")
    lines = "".join(f"{path.relative_to(folder).as_posix()} {file_digest(path)}\n" for path in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def _card_licence(folder: Path) -> str | None:
    """The `license:` line of the model card's front matter."""
    try:
        head = (folder / "README.md").read_text("utf-8", errors="replace")[:8192]
    except OSError:
        return None
    if not head.startswith("---"):
        return None
    for line in head.split("---")[1].splitlines():
        if line.startswith("license:"):
            return line.partition(":")[2].strip() or None
    return None
