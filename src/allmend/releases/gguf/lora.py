"""The adapter alone as GGUF, to be put on a GGUF of the base when that is loaded (`--lora`, Ollama's ADAPTER)."""

from __future__ import annotations

import re
from pathlib import Path

from allmend.adapters import AdapterWeights
from allmend.errors import InputError
from allmend.releases.gguf.model import Naming, permuted
from allmend.releases.gguf.settings import Settings


def write(weights: AdapterWeights, settings: Settings, target: Path, naming: Naming) -> None:
    """Write it in fp32: a few megabytes, and nothing is lost.

    llama.cpp multiplies by alpha / rank of each module; where modules differ in that, the scale goes into B and
    alpha is written as 0, which llama.cpp reads as "multiply by nothing".
    """
    import gguf
    import numpy as np

    scales = {module: weights.config_of(module).scale for module in weights.modules}
    plain = {
        round(scale * pair[0].shape[0], 6)
        for scale, pair in zip(scales.values(), weights.modules.values(), strict=True)
    }
    alpha = plain.pop() if len(plain) == 1 else 0.0
    kinds = {value: key for key, value in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(kinds[settings.architecture], settings.layers)
    writer = gguf.GGUFWriter(target, settings.architecture)
    try:
        writer.add_type("adapter")
        writer.add_name(naming.name)
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", float(alpha))
        if naming.base:
            writer.add_base_model_count(1)
            writer.add_base_model_name(0, naming.base)
        if naming.licence:
            writer.add_license(naming.licence)
        writer.add_chat_template(naming.template)
        for module, (a, b) in sorted(weights.modules.items()):
            name = names.get_name(f"{module}.weight", try_suffixes=(".weight",))
            if name is None:
                raise InputError(f"{module} has no name in GGUF's {settings.architecture}", where=str(weights.folder))
            if settings.permutes and (found := re.search(r"\.attn_([qk])\.", name)):
                b = permuted(b, settings.heads if found[1] == "q" else settings.kv_heads)
            b = b if alpha else b * scales[module]
            writer.add_tensor(f"{name}.lora_a", np.ascontiguousarray(a.float().numpy()))
            writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(b.float().numpy()))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
