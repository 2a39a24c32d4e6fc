"""Speech: what is said is heard again; what is no sound is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest

from allmend.engines.speak import Sound
from allmend.engines.speech.piper import PiperVoice
from allmend.engines.speech.sound import FORMATS, decoded, encoded
from allmend.engines.speech.whisper import WhisperEngine
from allmend.engines.transcribe import Hearing
from allmend.errors import InputError

SAID = "The quick brown fox jumps over the lazy dog."


@pytest.mark.model
def test_what_speech_produced_is_transcribed(small_models: dict[str, Any]) -> None:
    voice = PiperVoice(small_models["piper-joe"].path, ready=False)
    whisper = WhisperEngine(small_models["whisper-base"].path, threads=1)
    try:
        spoken = voice.speak(SAID)
        slow = voice.speak("Yes.", speed=0.5)
        assert 1 < spoken.seconds < 10 and slow.seconds > 0.3
        heard = whisper.hear(encoded(spoken, "mp3"), Hearing(words=True))
        segments = list(heard.segments)
        said = "".join(segment.text for segment in segments)
        assert re.findall(r"\w+", said.lower()) == re.findall(r"\w+", SAID.lower())
        assert heard.language == "en" and abs(heard.duration - spoken.seconds) < 0.2
        assert [word.word.strip(" .") for word in segments[0].words][:3] == ["The", "quick", "brown"]
        with pytest.raises(InputError, match="no recording"):
            whisper.hear(b"RIFF" + b"\0" * 4000, Hearing())
        with pytest.raises(InputError, match="no language"):
            whisper.hear(encoded(spoken, "wav"), Hearing(language="xx"))
    finally:
        voice.close()
        whisper.close()


@pytest.mark.parametrize("form", sorted(set(FORMATS) - {"pcm"}))
def test_every_format_is_read_again_with_its_length(form: str) -> None:
    wave = b"".join(
        int(8000 * ((place // 50) % 2 * 2 - 1)).to_bytes(2, "little", signed=True) for place in range(22050)
    )
    again = decoded(encoded(Sound(wave, 22050), form))
    assert abs(len(again) / 2 / 16000 - 1) < 0.15


def test_headerless_samples_come_at_the_rate_that_clients_expect() -> None:
    assert len(encoded(Sound(b"\0\0" * 22050, 22050), "pcm")) / 2 == pytest.approx(24000, rel=0.01)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x1aE\xdf\xa3" * 300, b"OggS" + bytes(2000)])
def test_what_is_no_sound_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"no recording|no sound"):
        decoded(content)
