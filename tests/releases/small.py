"""A run of tune on a two-layer model, recorded without training: what `ship` starts from."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import processors

import tiny
from allmend import adapters, runs
from allmend.adapters import LoraConfig, attach, write
from allmend.data import PLAIN, read_template
from allmend.models import resolve
from allmend.models.loading import load
from allmend.models.saving import write_model
from allmend.nouns.verdict import Verdict
from allmend.releases.order import Order
from allmend.verbs.tune import TuneSettings
from allmend.verbs.tuning_rows import read_dataset
from allmend.verbs.tuning_verdict import write_verdict

TERMS = "Use is bound to these terms."


def tokenizer() -> Any:
    """The tokeniser of bytes, beginning every text with its begin mark, as most do."""
    made = copy.deepcopy(tiny.tokenizer())
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A", special_tokens=[("<start>", made.bos_token_id)]
    )
    return made


def base(folder: Path, kind: str = "llama", dtype: torch.dtype = torch.bfloat16, **changes: Any) -> Path:
    """A model folder with weights that are far from each other, and a licence."""
    network = tiny.model(kind, **({"initializer_range": 0.15} | changes)).to(dtype)
    network.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    (folder / "LICENSE").write_text(TERMS)
    return folder


def rows(path: Path, count: int = 60) -> Path:
    """Questions with two answers."""
    words = ["red", "green", "blue", "white", "black", "grey"]
    with path.open("w") as out:
        for place in range(count):
            word = words[place % 6]
            prompt = f"{place}: is {word} {words[place // 6 % 6]}?"
            out.write(json.dumps({"prompt": prompt, "completion": "yes" if place % 6 < 3 else "no"}) + "\n")
    return path


def run(
    folder: Path,
    kind: str = "llama",
    *,
    dora: bool = False,
    bits: int | None = None,
    verdict: Verdict | None = None,
    **changes: Any,
) -> str:
    """Base, rows and adapter in `folder`, and the id of a finished run of tune that made the adapter."""
    place = base(folder / "base", kind, **changes)
    data = rows(folder / "rows.jsonl")
    way = {"rank": 4, "alpha": 8.0, "dtype": "float32", "dora": dora, "base_bits": bits}
    settings = TuneSettings.of({"model": str(place), "budget": 60, **way})
    about = resolve(str(place))
    network = tiny.transformers.AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    lora = attach(network, LoraConfig(rank=4, alpha=8.0, dora=dora))
    numbers = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in lora.layers.values():
            layer.lora_b.copy_(torch.randn(layer.lora_b.shape, generator=numbers) * 0.08)
    with runs.record("tune", settings=settings, subject=str(data)) as record:
        dataset = read_dataset(str(data), settings)
        record.input(data, name="data", sha256=dataset.examples.sha256)
        record.input(place, name="model", sha256=about.digest)
        record.choice("splits", dataset.examples.splits, "for the test")
        record.choice("steps", 3, "for the test")
        write(record.folder / "adapter", lora, about, PLAIN.text, PLAIN.name, bits)
        record.output("adapter", record.folder / "adapter")
        if verdict is not None:
            write_verdict(record, verdict)
    return record.id


def whole_run(folder: Path, kind: str = "llama", dtype: str = "float32", **changes: Any) -> str:
    """As `run`, of a run that learned all weights: every one of them a little off its base."""
    place = base(folder / "base", kind, **changes)
    data = rows(folder / "rows.jsonl")
    settings = TuneSettings.of({"model": str(place), "budget": 60, "dtype": dtype, "full": True})
    loaded = load(resolve(str(place)), dtype)
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in loaded.model.parameters():
            weight.add_(torch.randn_like(weight) * 0.02)
    with runs.record("tune", settings=settings, subject=str(data)) as record:
        record.input(data, name="data", sha256=read_dataset(str(data), settings).examples.sha256)
        record.input(place, name="model", sha256=loaded.about.digest)
        write_model(record.folder / "model", loaded, PLAIN.text, PLAIN.name)
        record.output("model", record.folder / "model")
    return record.id


def order(folder: Path, kind: str = "llama", **changes: Any) -> Order:
    """What `ship` hands on for such a run: merged and GGUF files, six prompts."""
    identity = run(folder, kind, **changes)
    tuned = runs.show(identity)
    settings = TuneSettings.of(tuned.settings)
    dataset = read_dataset(str(folder / "rows.jsonl"), settings)
    adapter = Path(tuned.output("adapter") or "")
    return Order(
        run=tuned,
        loaded=load(resolve(settings.model), "float32"),
        weights=adapters.read(adapter),
        template=read_template(adapter),
        rows=dataset.held_out,
        labels=dataset.labels,
        target=folder / "release",
        verdict=None,
        data="rows.jsonl",
        data_digest=dataset.examples.sha256,
        data_licence=None,
        splits={},
        merge=True,
        gguf=("bf16", "q8_0"),
        prompts=6,
    )
