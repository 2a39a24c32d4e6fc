"""Calls of the `llm` tool: URL MODEL. Prints one line for each that did what it should."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

url, model, *keys = sys.argv[1:]
key = keys[0] if keys else "none"
home = Path(tempfile.mkdtemp())
names = {"base": model, "tuned": "yours", "colon": f"{model}:yours"}
entries = [
    f"- model_id: {name}\n  model_name: {target!r}\n  api_base: {url}\n"
    "  supports_tools: true\n  supports_schema: true\n"
    for name, target in names.items()
]
entries.append(f"- model_id: text\n  model_name: {model!r}\n  api_base: {url}\n  completion: true\n")
(home / "extra-openai-models.yaml").write_text("".join(entries))
program = Path(sys.executable).parent / "llm"
short = ["-o", "max_tokens", "30", "-o", "temperature", "0"]


def llm(*arguments: str, given: str = "", good: bool = True) -> str:
    """What the tool prints."""
    environment = {**os.environ, "LLM_USER_PATH": str(home), "OPENAI_API_KEY": key}
    done = subprocess.run(
        [str(program), *arguments], input=given, capture_output=True, text=True, env=environment, timeout=120
    )
    if (done.returncode == 0) != good:
        raise SystemExit(f"{arguments}: {done.returncode} {done.stdout} {done.stderr}")
    return done.stdout if good else done.stdout + done.stderr


def check(name: str, value: object) -> None:
    """Fail loudly, or say that it worked."""
    if not value:
        raise SystemExit(f"{name}: {value!r}")
    print("ok", name)


first = llm("-m", "base", "hi", *short)
check("streamed", first.strip())
check("whole", llm("-m", "base", "hi", "--no-stream", *short) == first)
check("adapter", llm("-m", "tuned", "hi", *short) != first)
check("adapter by base", llm("-m", "colon", "hi", *short) == llm("-m", "tuned", "hi", *short))
check("standard input", llm("-m", "base", *short, given="hi") == first)
check("system", llm("-m", "base", "hi", "-s", "be kind", *short))
check("conversation", llm("-m", "base", "more", "-c", *short))
check("schema", '"good"' in llm("-m", "base", "hi", "--schema", "good bool", "--no-stream", "-o", "temperature", "0"))
check("schema streamed", '"good"' in llm("-m", "base", "hi", "--schema", "good bool", "-o", "temperature", "0"))
check("text", llm("-m", "text", "abc", "-o", "max_tokens", "5") is not None)
check("seed", llm("-m", "base", "hi", "-o", "seed", "3", "-o", "max_tokens", "9") == llm(
    "-m", "base", "hi", "-o", "seed", "3", "-o", "max_tokens", "9"))  # fmt: skip
check("top p", llm("-m", "base", "hi", "-o", "top_p", "0.5", "-o", "max_tokens", "9"))
check("penalties", llm("-m", "base", "hi", "-o", "presence_penalty", "1", "-o", "frequency_penalty", "1", *short))
check("stop", llm("-m", "base", "hi", "-o", "stop", "e", *short) is not None)
check("logit bias", llm("-m", "base", "hi", "-o", "logit_bias", '{"65": 100}', "-o", "max_tokens", "4"))
check("logged", llm("logs", "-n", "1"))
check("logged usage", "in" in llm("logs", "-n", "1", "-u", "--short"))
check("models", "tuned" in llm("models"))
check("too large", "temperature" in llm("-m", "base", "hi", "-o", "temperature", "9", good=False))
check("tools", llm("-m", "tuned", "hi", "-T", "llm_version", *short) is not None)
