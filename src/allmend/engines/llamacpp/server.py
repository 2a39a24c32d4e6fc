"""llama.cpp's server with the adapters that it was started with; others start it anew."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from allmend.engines.llamacpp.adapter_files import AdapterFiles
from allmend.errors import InputError


class Server:
    """The server; whoever asks it something comes in by `enter` and goes by `leave`.

    Args:
        library: the xllamacpp module.
        model: the GGUF file.
        files: adapters that it may be started with.
        context: most tokens of a prompt and its answer.
        parallel: answers generated at once.
        threads: for computing.

    Attributes:
        change: held by whoever changes the server or the files.
        active: how many are in.
        restarts: how many wait for a start with their adapters.
    """

    def __init__(
        self, library: Any, model: Path, files: AdapterFiles, *, context: int, parallel: int, threads: int
    ) -> None:
        self._library, self._model, self.files = library, model, files
        self._context, self._parallel, self._threads = context, parallel, threads
        self.change = threading.Condition()
        self.active = self.restarts = 0
        self._running: Any = None
        self._order: list[Path] = []

    def enter(self, files: dict[str, Path]) -> tuple[Any, list[Path]]:
        """llama.cpp's own server with these adapters among others, and its files in their order there.

        It is started anew, when nothing runs, where it has not all of them.
        As long as somebody waits for that nobody else comes in, or those who need no other adapters could keep
        it from ever happening.
        """
        waits = False
        with self.change:
            try:
                while True:
                    for name, file in files.items():
                        if file in self.files.refused:
                            raise InputError(
                                f"llama.cpp does not load the adapter {name!r}: {self.files.refused[file]}"
                            )
                    fits = self._running is not None and set(files.values()) <= set(self._order)
                    if fits and (waits or not self.restarts):
                        self.active += 1
                        return self._running, self._order
                    if not fits and not waits:
                        waits, self.restarts = True, self.restarts + 1
                    if not fits and self.active == 0:
                        self._start([*self.files.by_name.values(), *files.values()])
                    else:
                        self.change.wait()
            finally:
                self.restarts -= waits
                self.change.notify_all()

    def leave(self) -> None:
        """What was asked is answered."""
        with self.change:
            self.active -= 1
            self.change.notify_all()

    def close(self) -> None:
        """End it; nobody is in."""
        self._running = None

    def _start(self, files: list[Path]) -> None:
        """Start with these adapters; one that llama.cpp refuses is left out, and told to those who ask for it."""
        unique = [file for file in dict.fromkeys(files) if file not in self.files.refused]
        good = [file for file in unique if file in self.files.sound]
        try:
            self._start_with(unique)
            self.files.sound.update(unique)
            return
        except Exception:
            if good == unique:
                raise  # It is not for an adapter.
        refused = {}
        for file in unique:
            if file in self.files.sound:
                continue
            try:
                self._start_with([*good, file])
            except Exception as error:
                refused[file] = (str(error).splitlines() or [type(error).__name__])[0][:200]
            else:
                good.append(file)
                self.files.sound.add(file)
                # A server that is ended before its loop has begun waits for ever; after an answer it has begun.
                self._running.handle_completions({"prompt": [0], "max_tokens": 1}, lambda chunk: False)
        if self._running is None:
            self._start_with(good)  # When the base alone fails too, it was for no adapter.
        self.files.refused |= refused

    def _start_with(self, files: list[Path]) -> None:
        self._running = None
        params = self._library.CommonParams()
        params.model.path = str(self._model)
        params.n_ctx, params.n_parallel, params.kv_unified = self._context * self._parallel, self._parallel, True
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self._threads
        params.warmup, params.verbosity, params.cache_ram_mib = False, -1, 0
        params.lora_init_without_apply = True
        adapters = []
        for file in files:
            adapter = self._library.CommonAdapterLoraInfo()
            adapter.path, adapter.scale = str(file), 0.0
            adapters.append(adapter)
        params.lora_adapters = adapters
        self._running, self._order = self._library.Server(params), list(files)
