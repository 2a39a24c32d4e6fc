"""How much faster the answers of a verdict are written together than one at a time.

    python bench/verdict/batched.py [--prompts 64] [--alone 16] [--tokens 16] [--rounds 3]

The default model, greedy, prompts of the movie reviews, as many tokens for each (no answer ends early). Both sides have
the same weights in the same type and the same threads: `together` is the engine that a verdict uses, with its start and
its self-test counted, on as many prompts as a verdict reads in free text; `one at a time` is `generate` of
transformers, a prompt after another, with its key/value cache, on the first `--alone` of them, since its speed does not
depend on how many there are.
Rounds are interleaved; medians count. The result goes to `batched.json` beside this file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from about import machine

from allmend import data
from allmend.engines.text import Sampling, TextRequest
from allmend.engines.torch.setup import build_engine
from allmend.models import resolve
from allmend.models.loading import Loaded, load
from allmend.models.rated_rows import examples_file
from allmend.verdicts.measure import prompt_ids

WANTED = 5.0


def together(loaded: Loaded, prompts: list[list[int]], tokens: int) -> tuple[float, int]:
    """Seconds, tokens written."""
    start = time.perf_counter()
    engine = build_engine(loaded.model, loaded.tokenizer, context=loaded.context)
    try:
        sampling = Sampling(max_tokens=tokens, temperature=0.0, ignore_end=True)
        found = engine.complete([TextRequest(tuple(prompt), sampling) for prompt in prompts])
    finally:
        engine.close()
    return time.perf_counter() - start, sum(answer.usage.completion for answer in found)


@torch.inference_mode()
def one_at_a_time(loaded: Loaded, prompts: list[list[int]], tokens: int) -> tuple[float, int]:
    """The same by transformers."""
    start, written = time.perf_counter(), 0
    for prompt in prompts:
        ids = torch.tensor([prompt])
        answer = loaded.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            pad_token_id=loaded.tokenizer.pad_token_id or loaded.tokenizer.eos_token_id,
        )
        written += answer.shape[1] - len(prompt)
    return time.perf_counter() - start, written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in (("prompts", 64), ("alone", 16), ("tokens", 16), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    loaded = load(resolve("gemma-3-270m"))
    template = data.of_tokenizer(loaded.tokenizer)
    dataset = data.load(examples_file("movie-reviews"), seed=0)
    prompts = [prompt_ids(loaded, row, template, room=asked.tokens) for row in dataset.held_out[: asked.prompts]]
    one_at_a_time(loaded, prompts[:2], 4)
    together(loaded, prompts[:2], 4)
    rates: dict[str, list[float]] = {"together": [], "one_at_a_time": []}
    for number in range(asked.rounds):
        for name, side in (("together", together), ("one_at_a_time", one_at_a_time)):
            some = prompts if name == "together" else prompts[: asked.alone]
            seconds, written = side(loaded, some, asked.tokens)
            assert written == asked.tokens * len(some), (name, written)
            rates[name].append(written / seconds)
            print(f"round {number}: {name} {written / seconds:.1f} tokens/s", flush=True)
    medians = {name: round(statistics.median(values), 1) for name, values in rates.items()}
    result = {
        "what": "tokens a second of answers written for a verdict",
        "command": "python " + " ".join(["bench/verdict/batched.py", *sys.argv[1:]]),
        "tokens_per_second": medians,
        "times_as_fast": round(medians["together"] / medians["one_at_a_time"], 2),
        "wanted": WANTED,
        "rounds": {name: [round(value, 1) for value in values] for name, values in rates.items()},
        "seconds_of": "the processor" if time.perf_counter is time.process_time else "the wall",
        "prompts": len(prompts),
        "prompts_one_at_a_time": asked.alone,
        "prompt_tokens": sum(map(len, prompts)),
        "tokens": asked.tokens,
        "dtype": str(loaded.dtype),
        "threads": torch.get_num_threads(),
        "machine": machine(),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
