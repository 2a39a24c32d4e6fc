"""An adapter in PEFT's form, written as the GGUF file that llama.cpp reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from allmend.errors import InputError

if TYPE_CHECKING:
    from allmend.adapters import AdapterWeights


def about_model(path: Path) -> tuple[str, int, int, int]:
    """(architecture, layers, query heads, key heads) as a GGUF file's header says."""
    from gguf import GGUFReader

    reader = GGUFReader(path)

    def value(name: str) -> Any:
        field = reader.get_field(name)
        return None if field is None else field.contents()

    kind = str(value("general.architecture"))
    heads = int(value(f"{kind}.attention.head_count") or 0)
    return kind, int(value(f"{kind}.block_count") or 0), heads, int(value(f"{kind}.attention.head_count_kv") or heads)


def write(weights: AdapterWeights, model: tuple[str, int, int, int], target: Path) -> None:
    """Write `weights` for the model that `about_model` described.

    Raises:
        InputError: it changes a layer that llama.cpp has no name for.
    """
    import gguf
    import numpy

    kind, layers, heads, kv_heads = model
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
