"""Whisper through faster-whisper (CTranslate2), in 8 bits on a processor."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from allmend.compute.limited import Limited
from allmend.engines.speech.sound import MOST_SECONDS, RATE
from allmend.engines.transcribe import Heard, Hearing, Segment, Word
from allmend.errors import InputError, Unavailable


class WhisperEngine:
    """A `TranscribeEngine` over a folder that CTranslate2 reads.

    Args:
        threads: processor threads; 0 leaves it to CTranslate2.
    """

    def __init__(self, folder: Path, *, threads: int = 0) -> None:
        try:
            from faster_whisper import WhisperModel
        except ImportError:
            raise Unavailable(
                "speech to text needs faster-whisper", hint="Install it with: pip install 'allmend[speech]'"
            ) from None
        try:
            self._model: Any = WhisperModel(
                str(folder), device="auto", compute_type="int8", cpu_threads=threads, local_files_only=True
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise InputError(f"the model cannot be loaded: {error}", where=str(folder)) from None
        self._decode = Limited(
            "allmend.engines.speech.sound:decoded",
            memory=1 << 30,
            seconds=120,
            most=2 * RATE * (MOST_SECONDS + 1),
        )
        # One recording at a time: each takes all threads.
        self._turn = threading.Lock()

    def hear(self, recording: bytes, hearing: Hearing) -> Heard:
        """Transcribe; see `TranscribeEngine.hear`."""
        import numpy as np

        known = self._model.supported_languages
        if hearing.language is not None and hearing.language not in known:
            raise InputError(f"there is no language {hearing.language!r}", hint="Give it as ISO 639-1, like en or de.")
        samples = np.frombuffer(self._decode(recording), dtype="<i2").astype(np.float32) / 32768
        if len(samples) < RATE // 10:
            raise InputError("the recording is shorter than a tenth of a second")
        with self._turn:
            found, about = self._model.transcribe(
                samples,
                language=hearing.language,
                task="translate" if hearing.translate else "transcribe",
                initial_prompt=hearing.prompt,
                temperature=list(hearing.temperature),
                word_timestamps=hearing.words,
            )
        return Heard(about.language, len(samples) / RATE, self._segments(found))

    def _segments(self, found: Iterator[Any]) -> Iterator[Segment]:
        while True:
            with self._turn:
                made = next(found, None)
            if made is None:
                return
            yield Segment(
                int(made.id) - 1,
                float(made.start),
                float(made.end),
                made.text,
                tuple(made.tokens),
                float(made.temperature or 0.0),
                float(made.avg_logprob),
                float(made.compression_ratio),
                float(made.no_speech_prob),
                tuple(Word(word.word, float(word.start), float(word.end)) for word in made.words or ()),
            )

    def close(self) -> None:
        """Let the model go."""
        self._decode.close()
