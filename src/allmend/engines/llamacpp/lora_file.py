"""An adapter in PEFT's form, written as the GGUF file that llama.cpp reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from allmend.errors import InputError

if TYPE_CHECKING:
    from allmend.adapters import AdapterWeights


class GgufModel(NamedTuple):
    """What a GGUF file's header says."""

    kind: str
    """The architecture."""
    layers: int
    heads: int
    kv_heads: int
    shapes: dict[str, tuple[int, ...]]
    """Of each tensor: (outputs, inputs) where it is a matrix."""


def about_model(path: Path) -> GgufModel:
    """Read a GGUF file's header."""
    from gguf import GGUFReader

    reader = GGUFReader(path)

    def value(name: str) -> Any:
        field = reader.get_field(name)
        return None if field is None else field.contents()

    kind = str(value("general.architecture"))
    heads = int(value(f"{kind}.attention.head_count") or 0)
    kv_heads = int(value(f"{kind}.attention.head_count_kv") or heads)
    # GGUF counts from the dimension that changes fastest.
    shapes = {tensor.name: tuple(int(size) for size in tensor.shape[::-1]) for tensor in reader.tensors}
    return GgufModel(kind, int(value(f"{kind}.block_count") or 0), heads, kv_heads, shapes)


def write(weights: AdapterWeights, model: GgufModel, target: Path) -> None:
    """Write `weights` for the model that `about_model` described.

    Raises:
        InputError: it changes a layer that llama.cpp has no name for, does not fit one, or is a DoRA.
    """
    import gguf
    import numpy

    if weights.config.dora:
        raise InputError(
            "a DoRA scales the base's own outputs, which llama.cpp's adapters cannot",
            where=str(weights.folder),
            hint="Merge it into the model's weights and serve those, or tune a plain LoRA.",
        )
    kind, layers, heads, kv_heads, shapes = model
    arch = next((key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == kind), None)
    if arch is None:
        raise InputError(f"adapters for the architecture {kind!r} cannot be written for llama.cpp")
    names = gguf.get_tensor_name_map(arch, layers)
    writer = gguf.GGUFWriter(target, kind)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    # 0: the scaling is in B already, which modules of different ranks need.
    writer.add_float32("adapter.lora.alpha", 0.0)
    for module, (a, b) in weights.modules.items():
        name = names.get_name(module, try_suffixes=("",)) or names.get_name(f"{module}.weight", (".weight",))
        if name is None:
            raise InputError(f"llama.cpp has no name for {module!r}, which the adapter changes")
        has, wanted = shapes.get(f"{name}.weight"), (int(b.shape[0]), int(a.shape[1]))
        if has != wanted:
            what = "the file does not have" if has is None else f"is {' by '.join(map(str, has))} in the file"
            raise InputError(
                f"the adapter takes {module!r} for a layer of {wanted[1]} inputs and {wanted[0]} outputs, which {what}",
                where=str(weights.folder),
                hint="It was made for another base model.",
            )
        scaled = (b * weights.config_of(module).scale).float().numpy()
        if kind == "llama" and module.endswith(("q_proj", "k_proj")):
            # Files of this architecture have the halves of a rotated head interleaved.
            count = heads if module.endswith("q_proj") else kv_heads
            shape = (count, 2, scaled.shape[0] // count // 2, scaled.shape[1])
            scaled = scaled.reshape(shape).swapaxes(1, 2).reshape(scaled.shape)
        writer.add_tensor(f"{name}.weight.lora_a", numpy.ascontiguousarray(a.float().numpy()))
        writer.add_tensor(f"{name}.weight.lora_b", numpy.ascontiguousarray(scaled))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
