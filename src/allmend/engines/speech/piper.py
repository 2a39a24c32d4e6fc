"""Piper, run as a separate program: it is under the GPL 3, and nothing of it is loaded here.

A process is kept ready with the voice loaded, waiting for a text; another is started as soon as it gets one.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

from allmend.engines.speak import Sound
from allmend.errors import InputError, Unavailable

_SECONDS = 300
"""That a text may take."""


class PiperVoice:
    """A `SpeakEngine` over a voice's `.onnx` file and the description beside it."""

    program = "Piper, a separate program under the GPL 3"

    def __init__(self, path: Path, *, ready: bool = True) -> None:
        self._path = path
        self._command = _command()
        try:
            about = json.loads(path.with_name(path.name + ".json").read_text("utf-8"))
            self._rate = int(about["audio"]["sample_rate"])
            speakers = about.get("speaker_id_map") or {}
            self._speakers = {str(name): int(number) for name, number in speakers.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"the voice's description cannot be read: {error}", where=f"{path}.json") from None
        if not 1000 <= self._rate <= 192_000:
            raise InputError(f"{self._rate} samples a second is no rate of sound", where=f"{path}.json")
        self.voices = tuple(self._speakers)
        self._lock = threading.Lock()
        self._keep = ready
        self._ready: subprocess.Popen[bytes] | None = self._start([]) if ready else None
        self._closed = False

    def speak(self, text: str, *, speed: float = 1.0, voice: str | None = None) -> Sound:
        """Say a text; see `SpeakEngine.speak`."""
        if voice is not None and voice not in self._speakers:
            raise InputError(f"there is no voice {voice!r}", hint=f"Known: {', '.join(self.voices[:12])}.")
        options = [] if speed == 1 else ["--length-scale", f"{1 / speed:.4f}"]
        if voice is not None:
            options += ["--speaker", str(self._speakers[voice])]
        process = self._taken() if not options else self._start(options)
        # A line is said at once, and a text of many lines with a pause between them.
        given = "\n".join(" ".join(line.split()) for line in text.splitlines()) + "\n"
        try:
            samples, said = process.communicate(given.encode(), timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Unavailable(f"the text was not spoken within {_SECONDS} s") from None
        if process.returncode != 0:
            lines = said.decode("utf-8", "replace").strip().splitlines() or ["without a word"]
            raise Unavailable(f"Piper ended with {process.returncode}: {lines[-1][:300]}")
        return Sound(samples, self._rate)

    def close(self) -> None:
        """End the process that waits."""
        with self._lock:
            self._closed = True
            process, self._ready = self._ready, None
        if process is not None:
            process.kill()
            process.communicate()

    def _taken(self) -> subprocess.Popen[bytes]:
        with self._lock:
            process, self._ready = self._ready, None
            if self._keep and not self._closed:
                self._ready = self._start([])
        if process is not None and process.poll() is None:
            return process
        if process is not None:
            process.communicate()
        return self._start([])

    def _start(self, options: list[str]) -> subprocess.Popen[bytes]:
        beside = f"{self._path}.json"
        command = [*self._command, "--model", str(self._path), "--config", beside, "--output-raw", *options]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )


def _command() -> list[str]:
    """How Piper is called: its program, or its package beside ours as a program."""
    if find_spec("piper") is not None:
        return [sys.executable, "-m", "piper"]
    found = shutil.which("piper")
    if found is None:
        raise Unavailable(
            "text to speech needs Piper, a separate program under the GPL 3",
            hint="Install it with: pip install 'allmend[speech]'",
        )
    return [found]
