"""The child: starts xllamacpp's server on loopback, as whoever receives the file would, and asks it.

Reads one order as JSON from standard input, writes one line of JSON to standard output. The likelihood of a given
answer is read from the server itself: a grammar allows only the answer's tokens, and the server reports the
log-probability that the model gave each before the grammar had its say.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version
from typing import Any

_BIAS = 1e4


def main() -> None:
    """Answer the order."""
    order = json.load(sys.stdin)
    # llama.cpp logs where it likes; the answer has a channel of its own.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        answer = _answer(order)
    except Exception as error:  # whatever it is, the parent hears it in one line
        answer = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
    channel.write(json.dumps(answer) + "\n")
    channel.flush()
    # The server's threads are not waited for: the process is at its end.
    os._exit(0)


def _answer(order: dict[str, Any]) -> dict[str, Any]:
    import httpx
    import xllamacpp

    server = _server(xllamacpp, order)
    with httpx.Client(base_url=server.listening_address, timeout=600.0, trust_env=False) as client:
        texts, prompts, losses, labels = [], [], [], []
        answers: list[dict[str, Any]] = []
        for row in order["rows"]:
            text, prompt = _prompt(client, row)
            texts.append(text)
            prompts.append(prompt)
            sums, top = _score(client, prompt, row["answer"], order["end"])
            losses.append(-sums / len(row["answer"]))
            if order["labels"]:
                labels.append(_best(client, prompt, order["labels"], top, order["end"]))
            if row["messages"] and len(answers) < order["written"]:
                made = _post(
                    client, "/completion", prompt=prompt, n_predict=order["answer_tokens"], temperature=0.0,
                    return_tokens=True,
                )  # fmt: skip
                answers.append({"content": made["content"], "tokens": made["tokens"]})
    return {
        "texts": texts,
        "prompts": prompts,
        "losses": losses,
        "labels": labels,
        "answers": answers,
        "version": version("xllamacpp"),
    }


def _server(xllamacpp: Any, order: dict[str, Any]) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = order["model"]
    params.n_ctx = order["context"]
    params.n_parallel = 1
    params.port = 0
    params.warmup = False
    params.verbosity = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = order["threads"]
    if order["adapter"]:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(order["adapter"], 1.0)]
    if order["template"]:
        params.chat_template = order["template"]
    return xllamacpp.Server(params)


def _post(client: Any, path: str, **body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = client.post(path, json=body).json()
    if "error" in answer:
        raise RuntimeError(f"{path}: {answer['error'].get('message', answer['error'])}")
    return answer


def _prompt(client: Any, row: dict[str, Any]) -> tuple[str, list[int]]:
    if not row["messages"]:
        return "", row["prompt"]
    tools = {"tools": row["tools"]} if "tools" in row else {}
    text = _post(client, "/apply-template", messages=row["messages"], **tools)["prompt"]
    # As the server reads a chat's prompt: marks written in it are marks, and the begin mark is added where it is due.
    return text, _post(client, "/tokenize", content=text, add_special=True, parse_special=True)["tokens"]


def _score(client: Any, prompt: list[int], answer: list[int], end: int) -> tuple[float, dict[int, float]]:
    """Sum of log-probabilities of the answer's tokens, and those of the likeliest first tokens."""
    forced = answer[:-1] if answer[-1] == end and len(answer) > 1 else answer
    body: dict[str, Any] = {
        "prompt": prompt,
        "n_predict": len(answer),
        "temperature": 0.0,
        "n_probs": 64,
        "cache_prompt": True,
        "grammar": "root ::= " + " ".join(f"<[{token}]>" for token in forced),
    }
    if forced is not answer:
        # After the answer the grammar leaves every end mark open; of those, ours is taken.
        body["logit_bias"] = [[end, _BIAS]]
    if answer == [end]:
        body = {key: value for key, value in body.items() if key != "grammar"} | {"logit_bias": [[end, _BIAS]]}
    steps = _post(client, "/completion", **body)["completion_probabilities"]
    got = [step["id"] for step in steps]
    if got[: len(answer)] != answer:
        raise RuntimeError(f"llama.cpp cannot write the answer {answer}: it wrote {got}")
    top = {int(entry["id"]): float(entry["logprob"]) for entry in steps[0]["top_logprobs"]}
    return sum(float(step["logprob"]) for step in steps[: len(answer)]), top


def _best(client: Any, prompt: list[int], labels: list[list[int]], top: dict[int, float], end: int) -> int:
    scores = []
    for label in labels:
        known = top.get(label[0]) if len(label) == 1 else None
        scores.append(known if known is not None else _score(client, prompt, label, end)[0])
    return max(range(len(labels)), key=scores.__getitem__)


if __name__ == "__main__":
    main()
