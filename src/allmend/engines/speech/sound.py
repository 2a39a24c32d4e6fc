"""Sound formats, through PyAV (FFmpeg): what people upload to samples, and samples to what players play."""

from __future__ import annotations

import io
import struct

from allmend.engines.speak import Sound

RATE = 16_000
"""Samples a second that Whisper hears."""
MOST_SECONDS = 2 * 3600
"""Of a recording."""

FORMATS = {
    "wav": ("audio/wav", "", ""),
    "pcm": ("audio/pcm", "", ""),
    "mp3": ("audio/mpeg", "mp3", "libmp3lame"),
    "opus": ("audio/ogg", "ogg", "libopus"),
    "aac": ("audio/aac", "adts", "aac"),
    "flac": ("audio/flac", "flac", "flac"),
}
"""Name in the API: (media type, FFmpeg's container, its encoder)."""

PCM_RATE = 24_000
"""What clients take headerless samples for."""


def decoded(recording: bytes) -> bytes:
    """A recording's first sound track as 16-bit samples of one channel at `RATE`; `ValueError` where it is none."""
    import av

    out = io.BytesIO()
    try:
        with av.open(io.BytesIO(recording), mode="r", metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise ValueError("there is no sound in this file")
            resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
            for frame in container.decode(audio=0):
                for part in resampler.resample(frame):
                    out.write(part.to_ndarray().tobytes())
                if out.tell() > 2 * RATE * MOST_SECONDS:
                    raise ValueError(f"the recording is longer than {MOST_SECONDS // 3600} hours")
            for part in resampler.resample(None):
                out.write(part.to_ndarray().tobytes())
    except (av.FFmpegError, OSError, IndexError, MemoryError) as error:
        raise ValueError(f"this is no recording that can be read ({type(error).__name__})") from None
    return out.getvalue()


def encoded(sound: Sound, form: str) -> bytes:
    """Samples as a file of one of `FORMATS`."""
    if form == "wav":
        return _wav(sound)
    if form == "pcm":
        return _resampled(sound, PCM_RATE)
    import av

    _, container_name, codec = FORMATS[form]
    out = io.BytesIO()
    with av.open(out, mode="w", format=container_name) as container:
        rate = 48_000 if form == "opus" else sound.rate
        stream = container.add_stream(codec, rate=rate, layout="mono")
        for frame in (*_frames(sound), None):
            for packet in stream.encode(frame):
                container.mux(packet)
    return out.getvalue()


def _wav(sound: Sound) -> bytes:
    size = len(sound.samples)
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, sound.rate,
                       2 * sound.rate, 2, 16, b"data", size)  # fmt: skip
    return head + sound.samples


def _resampled(sound: Sound, rate: int) -> bytes:
    import av

    resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
    parts = [part for frame in (*_frames(sound), None) for part in resampler.resample(frame)]
    return b"".join(part.to_ndarray().tobytes() for part in parts)


def _frames(sound: Sound) -> list[object]:
    import av
    import numpy as np

    samples = np.frombuffer(sound.samples, dtype="<i2").reshape(1, -1)
    frames = []
    for start in range(0, samples.shape[1], sound.rate):
        frame = av.AudioFrame.from_ndarray(samples[:, start : start + sound.rate].copy(), format="s16", layout="mono")
        frame.rate, frame.pts = sound.rate, start
        frames.append(frame)
    return frames
