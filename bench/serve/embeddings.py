"""Embeddings: sentences a second on mixed lengths, ours against sentence-transformers and fastembed, on two cores.

    OMP_NUM_THREADS=2 python bench/serve/embeddings.py --fastembed PYTHON

The same weights everywhere (all-MiniLM-L6-v2). The texts are one to eight review sentences joined, in random order.
Every side is a process of its own; each round asks all sides once, one after the other, in an order that changes.
fastembed has no way to this model without its hub, so its ONNX file is made here from the same weights, with
onnxruntime's own fusions for BERT applied; PYTHON is an interpreter that has fastembed.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
SIDES = ("allmend", "allmend-float32", "sentence-transformers", "sentence-transformers-bfloat16", "fastembed")


def texts_of(count: int) -> list[str]:
    from allmend.models.rated_rows import examples_file

    rows = [json.loads(line)["prompt"].split("\n\n", 1)[1] for line in examples_file("movie-reviews").open()]
    chance = random.Random(0)
    texts, place = [], 0
    while len(texts) < count:
        several = chance.choice([1, 1, 1, 2, 3, 5, 8])
        texts.append(" ".join(rows[place : place + several]))
        place += several
    return texts


def onnx_of(folder: Path, into: Path) -> str:
    """The model as an ONNX file with onnxruntime's fusions."""
    import torch
    from onnxruntime.transformers import optimizer
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            return self.model(input_ids, attention_mask, token_type_ids).last_hidden_state

    ids = torch.ones(2, 9, dtype=torch.long)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    axes = {name: {0: "batch", 1: "sequence"} for name in [*names, "last_hidden_state"]}
    torch.onnx.export(
        Net().eval(), (ids, ids, torch.zeros_like(ids)), str(into / "plain.onnx"), input_names=names,
        output_names=["last_hidden_state"], dynamic_axes=axes, opset_version=17, dynamo=False,
    )  # fmt: skip
    fused = optimizer.optimize_model(str(into / "plain.onnx"), model_type="bert", num_heads=12, hidden_size=384)
    fused.save_model_to_file(str(into / "model.onnx"))
    (into / "plain.onnx").unlink()
    for path in folder.glob("*.json"):
        shutil.copy(path, into / path.name)
    return json.dumps(fused.get_fused_operator_statistics())


class Side:
    def __init__(self, kind: str, python: str, folder: str, threads: int, texts: list[str]) -> None:
        self.kind = kind
        command = [python, str(HERE / "embed_side.py"), kind, folder, str(threads)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._say(json.dumps(texts))
        self.about = self._hear()["about"]
        self.spent: list[dict[str, float]] = []

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def once(self, save: str = "") -> None:
        self._say(save)
        self.spent.append(self._hear())

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--texts", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--fastembed", metavar="PYTHON")
    parser.add_argument("--onnx", metavar="FOLDER", help="an ONNX folder made before")
    parser.add_argument("--only-onnx", metavar="FOLDER", help="make the ONNX folder, and nothing else")
    parser.add_argument("--out", default=str(HERE / "embeddings.json"))
    asked = parser.parse_args()
    from allmend.models.resolve import resolve

    model = resolve("all-minilm-l6-v2")
    if asked.only_onnx:
        Path(asked.only_onnx).mkdir(parents=True)
        print(onnx_of(model.path, Path(asked.only_onnx)))
        return
    texts = texts_of(asked.texts)
    with tempfile.TemporaryDirectory() as made:
        scratch = Path(made)
        sides = []
        for kind in SIDES:
            folder, python = str(model.path), sys.executable
            if kind == "fastembed":
                if asked.fastembed is None:
                    continue
                python, folder = asked.fastembed, asked.onnx or str(scratch / "onnx")
                if asked.onnx is None:
                    Path(folder).mkdir()
                    onnx_of(model.path, Path(folder))
            if kind.startswith("allmend"):
                folder = "all-minilm-l6-v2"
            sides.append(Side(kind, python, folder, asked.threads, texts))
        for number in range(asked.rounds):
            for side in sides[number % len(sides) :] + sides[: number % len(sides)]:
                side.once(str(scratch / f"{side.kind}.npy") if number == asked.rounds - 1 else "")
        for side in sides:
            side.close()
        oracle = np.load(scratch / "sentence-transformers.npy")
        rows = {}
        for side in sides:
            rate = [len(texts) / spent["seconds"] for spent in side.spent]
            cosine = (np.load(scratch / f"{side.kind}.npy") * oracle).sum(axis=1)
            rows[side.kind] = {
                "sentences_per_second": round(statistics.median(rate), 1),
                "lowest": round(min(rate), 1),
                "highest": round(max(rate), 1),
                "cpu_seconds": round(statistics.median(spent["cpu"] for spent in side.spent), 3),
                "least_cosine_with_sentence_transformers": round(float(cosine.min()), 6),
                "about": side.about,
            }
    rival = max((row["sentences_per_second"], kind) for kind, row in rows.items() if not kind.startswith("allmend"))
    plain = [kind for kind in rows if not kind.startswith("allmend") and "bfloat16" not in kind]
    best_plain = max(rows[kind]["sentences_per_second"] for kind in plain)
    result = {
        "command": "python bench/serve/embeddings.py "
        + " ".join("PLACE" if each in (asked.fastembed, asked.onnx, asked.out) else each for each in sys.argv[1:]),
        "machine": f"{_processor()}, {asked.threads} threads",
        "versions": _versions(),
        "texts": len(texts),
        "rounds": asked.rounds,
        "sides": rows,
        "best_rival": rival[1],
        "times_best_rival": round(rows["allmend"]["sentences_per_second"] / rival[0], 2),
        "times_best_rival_as_it_comes": round(rows["allmend"]["sentences_per_second"] / best_plain, 2),
        "float32_times_best_rival_as_it_comes": round(rows["allmend-float32"]["sentences_per_second"] / best_plain, 2),
    }
    Path(asked.out).write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers", "sentence-transformers", "tokenizers")}


if __name__ == "__main__":
    main()
