"""Writing a merged model folder as GGUF: a tensor at a time, each quantised once from the merged weights."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allmend.errors import DoesNotFit, InputError
from allmend.releases.gguf.reader import Value
from allmend.releases.gguf.settings import Settings, config_of, generation_of, sampling_of, settings_of
from allmend.releases.gguf.types import FILE_TYPES, enumerated, quantised, size, tensor_type
from allmend.releases.safetensors_stream import Entry, shards, tensor

_LAYER = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True)
class Naming:
    """What the file says beside model and tokenizer."""

    name: str
    template: str
    licence: str | None = None
    base: str | None = None


def write(
    folder: Path,
    target: Path,
    file_type: str,
    tokenizer: dict[str, Value],
    naming: Naming,
    report: Callable[[str, int, int], None] = lambda *_: None,
    types: Mapping[str, str] | None = None,
) -> None:
    """Write `folder` as `target`.

    Args:
        types: tensors (by their names in the folder) that get another type than the file's.

    Raises:
        Unavailable: a family, setting or type that is not written.
        DoesNotFit: no room on the disk.
    """
    import gguf

    config = config_of(folder)
    settings = settings_of(config, folder)
    plan = [
        (path, entry, name, (types or {}).get(entry.name, type_))
        for path, entry, name, type_ in planned(folder, settings, file_type)
    ]
    needed = sum(size(type_, entry.shape) for _, entry, _, type_ in plan)
    free = shutil.disk_usage(target.parent).free
    if free < needed + (64 << 20):
        raise DoesNotFit(
            f"{target.name} needs {needed / 2**20:.0f} MiB and {free / 2**20:.0f} MiB are free",
            where=str(target.parent),
            hint="Free some space, or name another disk with --to.",
        )
    writer = gguf.GGUFWriter(target, settings.architecture)
    try:
        _describe(writer, settings, file_type, naming, sampling_of(generation_of(folder)))
        for key, value in tokenizer.items():
            put(writer, key, value)
        writer.add_chat_template(naming.template)
        _tensors(writer, plan, settings, report, target.name)
    finally:
        writer.close()


def planned(folder: Path, settings: Settings, file_type: str) -> list[tuple[Path, Entry, str, str]]:
    """(file, entry, GGUF's name, type) of every tensor, in order."""
    import gguf

    kinds = {value: key for key, value in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(kinds[settings.architecture], settings.layers)
    files = shards(folder)
    tied = not any(entry.name == "lm_head.weight" for shard in files for entry in shard.entries)
    plan = []
    for shard in files:
        for entry in shard.entries:
            name = names.get_name(entry.name, try_suffixes=(".weight", ".bias"))
            if name is None:
                raise InputError(f"{entry.name} has no name in GGUF's {settings.architecture}", where=str(folder))
            found = _LAYER.match(name)
            layer = int(found[1]) if found else None
            plan.append(
                (
                    shard.path,
                    entry,
                    name,
                    tensor_type(file_type, name, entry.shape, layer, settings.layers, tied),
                )
            )
    return plan


def changed(values: Any, name: str, settings: Settings) -> Any:
    """A tensor as llama.cpp keeps it: norms with their offset, q and k in pairs (torch in, torch out)."""
    if settings.norm_offset and name.endswith("norm.weight"):
        return values.float() + settings.norm_offset
    if settings.permutes and re.search(r"\.attn_[qk]\.(weight|bias)$", name):
        return permuted(values, settings.heads if ".attn_q." in name else settings.kv_heads)
    return values


def permuted(values: Any, heads: int) -> Any:
    """Rows of each head from two halves into pairs: rows h*d + (0..d/2, d/2..d) become interleaved."""
    rows = values.shape[0]
    return values.reshape(heads, 2, rows // heads // 2, *values.shape[1:]).transpose(1, 2).reshape(values.shape)


def put(writer: Any, key: str, value: Value) -> None:
    """One setting with its own types."""
    import gguf

    kind = gguf.GGUFValueType(value.kind)
    writer.add_key_value(key, value.value, kind, gguf.GGUFValueType(value.of) if value.of is not None else None)


def _describe(writer: Any, settings: Settings, file_type: str, naming: Naming, sampling: dict[str, Any]) -> None:
    writer.add_type("model")
    writer.add_name(naming.name)
    if naming.licence:
        writer.add_license(naming.licence)
    if naming.base:
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, naming.base)
    for key, value in settings.values.items():
        full = f"{settings.architecture}.{key}"
        if isinstance(value, str):
            writer.add_string(full, value)
        elif isinstance(value, float):
            writer.add_float32(full, value)
        else:
            writer.add_uint32(full, value)
    for key, value in sampling.items():
        writer.add_int32(key, value) if isinstance(value, int) else writer.add_float32(key, value)
    writer.add_quantization_version(2)
    writer.add_file_type(FILE_TYPES[file_type])


def _tensors(
    writer: Any,
    plan: list[tuple[Path, Entry, str, str]],
    settings: Settings,
    report: Callable[[str, int, int], None],
    what: str,
) -> None:
    import numpy as np

    if settings.rope_factors is not None:
        factors = np.array(settings.rope_factors, dtype=np.float32)
        writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
    for _, entry, name, type_ in plan:
        shape = entry.shape
        number = enumerated(type_)
        if type_ == "f32":
            writer.add_tensor_info(name, shape, np.dtype(np.float32), size(type_, shape))
        else:
            bytes_shape = (*shape[:-1], size(type_, (1, shape[-1])))
            writer.add_tensor_info(name, bytes_shape, np.dtype(np.uint8), size(type_, shape), raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if settings.rope_factors is not None:
        writer.write_tensor_data(factors)
    for place, (path, entry, name, type_) in enumerate(plan):
        with path.open("rb") as file:
            values = changed(tensor(file, entry), name, settings)
        if type_ == "f32":
            writer.write_tensor_data(np.ascontiguousarray(values.float().numpy()))
        else:
            writer.write_tensor_data(quantised(values, type_, name))
        report(f"writing {what}", place + 1, len(plan))
