"""The servers that are compared, each a process of its own with the same number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from clients import wait_until
from processes import family, free_port, memory


class Side:
    """A server process."""

    name = ""
    most_rounds = 1_000_000
    """A side that takes minutes for a round is asked once."""

    def __init__(
        self, folder: Path, adapters: dict[str, Path], gguf: Path, loras: dict[str, Path], threads: int
    ) -> None:
        self.adapters, self.gguf, self.loras, self.threads = adapters, gguf, loras, threads
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = (folder / f"{self.name}.log").open("w")
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(self.command(), stdout=self._log, stderr=self._log, env=environment)
        try:
            wait_until(self._ready)
        except BaseException:
            self.close()
            raise

    def _ready(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"{self.name} ended: {(self.folder / f'{self.name}.log').read_text()[-500:]}")
        return httpx.get(f"{self.url}/health").status_code == 200

    def command(self) -> list[str]:
        """How it is started."""
        raise NotImplementedError

    def body(self, prompt: str, tokens: int, adapter: str | None) -> dict[str, Any]:
        """A request."""
        raise NotImplementedError

    def memory(self) -> int:
        """MiB it holds now, shared pages counted in part, with the processes it started."""
        return sum(memory(process) for process in family(self._process.pid))

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.close()


class Allmend(Side):
    """This project's server."""

    name = "allmend"

    def command(self) -> list[str]:
        """With every adapter, and a slot for each but where told otherwise."""
        adapters = [part for name, folder in self.adapters.items() for part in ("--adapter", f"{name}={folder}")]
        slots = os.environ.get("BENCH_SLOTS", "64")
        return [
            sys.executable, "-m", "allmend", "serve", "gemma-3-270m", "--port", str(self.port), "--context", "2048",
            "--slots", slots, *adapters,
        ]  # fmt: skip

    def body(self, prompt: str, tokens: int, adapter: str | None) -> dict[str, Any]:
        """Completions as everyone."""
        return {
            "model": adapter or "gemma-3-270m", "prompt": prompt, "max_tokens": tokens, "temperature": 0,
            "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True},
        }  # fmt: skip


class Native(Side):
    """llama.cpp's own server, built for this processor; its folder is in LLAMA_SERVER."""

    name = "llama.cpp"

    def command(self) -> list[str]:
        """As its own documentation has it for many users."""
        loras = [part for path in self.loras.values() for part in ("--lora", str(path))]
        return [
            os.environ["LLAMA_SERVER"], "-m", str(self.gguf), "--port", str(self.port), "-t", str(self.threads),
            "-tb", str(self.threads), "-np", "32", "-c", str(32 * 1024), "--no-webui", *loras,
            *(["--lora-init-without-apply"] if loras else []),
        ]  # fmt: skip

    def body(self, prompt: str, tokens: int, adapter: str | None) -> dict[str, Any]:
        """The same, with the adapter by its number."""
        body: dict[str, Any] = {
            "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True,
            "stream_options": {"include_usage": True},
        }  # fmt: skip
        if self.loras:
            names = list(self.loras)
            body["lora"] = [{"id": place, "scale": float(names[place] == adapter)} for place in range(len(names))]
        return body


class Wheel(Native):
    """The same server as xllamacpp's wheel brings it."""

    name = "xllamacpp"

    def command(self) -> list[str]:
        """Through a small script, since the wheel has no command."""
        settings = [str(self.gguf), str(self.port), str(self.threads), *(str(path) for path in self.loras.values())]
        return [sys.executable, str(Path(__file__).parent / "wheel_server.py"), *settings]


class Transformers(Side):
    """`generate` of transformers over a padded batch, all users at once; one adapter at most."""

    name = "transformers"

    def command(self) -> list[str]:
        """Through a small script."""
        return [sys.executable, str(Path(__file__).parent / "batch_server.py"), str(self.port), str(self.threads)]

    def body(self, prompt: str, tokens: int, adapter: str | None) -> dict[str, Any]:
        """Plain."""
        return {"prompt": prompt, "max_tokens": tokens}


class Mistral(Side):
    """mistral.rs, by the Python in MISTRALRS_PYTHON that has it; it reads the same file and takes adapters by name."""

    name = "mistral.rs"
    most_rounds = 1

    def command(self) -> list[str]:
        """Through a small script, since the wheel has no command."""
        adapters = [f"{name}={folder}" for name, folder in self.adapters.items()]
        script = str(Path(__file__).parent / "mistral_server.py")
        return [os.environ["MISTRALRS_PYTHON"], script, str(self.gguf), str(self.port), *adapters]

    def body(self, prompt: str, tokens: int, adapter: str | None) -> dict[str, Any]:
        """The adapter by its name."""
        return {"prompt": prompt, "max_tokens": tokens, "adapter": adapter}
