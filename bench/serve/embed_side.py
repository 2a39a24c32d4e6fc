"""One side of `embeddings.py`, in a process of its own: `embed_side.py KIND FOLDER THREADS`.

Reads the texts as one line of JSON, then embeds them all for every further line; answers with seconds, wall and
processor, and the last time with the vectors in a file.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Embed = Callable[[list[str]], Any]


def allmend(folder: str, threads: int, dtype: str | None) -> tuple[Embed, str]:
    import torch

    from allmend.engines.torch.embedding.setup import build_embedder
    from allmend.models.resolve import resolve

    torch.set_num_threads(threads)
    choices = []
    engine = build_embedder(resolve(folder), dtype=dtype, chosen=choices.append)
    about = ", ".join(f"{choice.name} {choice.value}" for choice in choices)
    return lambda texts: engine.submit(engine.rows(texts).tokens).result(), about


def sentence_transformers(folder: str, threads: int, dtype: str) -> tuple[Embed, str]:
    import sentence_transformers as library
    import torch

    torch.set_num_threads(threads)
    model = library.SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": getattr(torch, dtype)})

    def embed(texts: list[str]) -> Any:
        return model.encode(texts, show_progress_bar=False, convert_to_tensor=True).float().numpy()

    return embed, f"{library.__version__}, {dtype}, batches of 32 sorted by length (its defaults)"


def fastembed(folder: str, threads: int) -> tuple[Embed, str]:
    import fastembed as library
    import numpy as np
    import onnxruntime
    from fastembed.common.model_description import ModelSource, PoolingType

    library.TextEmbedding.add_custom_model(
        model="bench/model",
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf="bench/model"),
        dim=384,
        model_file="model.onnx",
    )
    model = library.TextEmbedding("bench/model", specific_model_path=folder, threads=threads)
    best = {"batch": 256}

    def embed(texts: list[str]) -> Any:
        return np.stack(list(model.embed(texts, batch_size=best["batch"])))

    return embed, f"{library.__version__}, onnxruntime {onnxruntime.__version__}, float32, batches of 256 (its default)"


def main() -> None:
    kind, folder, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    texts = json.loads(sys.stdin.readline())
    if kind == "fastembed":
        embed, about = fastembed(folder, threads)
    elif kind.startswith("allmend"):
        embed, about = allmend(folder, threads, "float32" if kind.endswith("32") else None)
    else:
        embed, about = sentence_transformers(folder, threads, "bfloat16" if kind.endswith("16") else "float32")
    embed(texts[:64])
    print(json.dumps({"about": about}), file=out, flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        vectors = embed(texts)
        spent = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        if path := line.strip():
            import numpy as np

            np.save(Path(path), vectors)
        print(json.dumps(spent), file=out, flush=True)


if __name__ == "__main__":
    main()
