"""`/v1/audio/…`: speech to text and text to speech."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Annotated, Any, Literal

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from allmend.engines.speak import SpeakEngine
from allmend.engines.transcribe import Heard, Hearing, Segment, TranscribeEngine
from allmend.errors import InputError, nearest
from allmend.serving import services
from allmend.serving.charge import charged
from allmend.serving.faults import Fault, unsupported
from allmend.serving.registry import Registry
from allmend.serving.streams import fault_of

TextFormat = Literal["json", "text", "srt", "vtt", "verbose_json"]
_PIECE = 3 << 14
"""Bytes of sound in an event."""
_OPENAI_VOICES = frozenset(
    [
        "alloy",
        "ash",
        "ballad",
        "coral",
        "echo",
        "fable",
        "nova",
        "onyx",
        "sage",
        "shimmer",
        "verse",
        "marin",
        "cedar",
        "default",
    ]
)
"""What clients send when nobody chose: it means the model's own voice."""


class VoiceName(BaseModel):
    """A voice as an object."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(max_length=256)]


class Transcription(BaseModel):
    """The answer in the format `json`."""

    text: str


class Voice(BaseModel):
    """A voice that can be asked for."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["audio.voice"] = "audio.voice"
    type: Literal["audio_sample"] = "audio_sample"
    created_at: int
    name: str
    model: str
    """Which has it."""


class VoiceList(BaseModel):
    """All of them, under the name that OpenAI's clients look at and under the one that Open WebUI does."""

    object: Literal["list"] = "list"
    data: list[Voice]
    voices: list[Voice]
    has_more: bool = False


class SpeechRequest(BaseModel):
    """The body of `/v1/audio/speech`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    model: Annotated[str, Field(min_length=1, max_length=1024)]
    input: Annotated[str, Field(min_length=1, max_length=4096)]
    voice: Annotated[str, Field(max_length=256)] | VoiceName | None = None
    """A speaker of the model; OpenAI's names mean its only or first one."""
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] | None = None
    """mp3 by default, as OpenAI has it; pcm is 24,000 16-bit samples a second, of one channel."""
    speed: Annotated[float, Field(ge=0.25, le=4)] | None = None
    instructions: str | None = None
    """Refused: voices here take none."""
    stream_format: Literal["audio", "sse"] | None = None
    """`sse`: the sound in events, once all of it is made."""


async def transcribe(
    request: Request, registry: Registry, file: UploadFile, form: dict[str, Any], *, translate: bool
) -> Response:
    """Text of a recording.

    Args:
        form: the other fields of the form, by name.
    """
    service = services.find(registry, str(form["model"]), "transcribe")
    wanted: str = form.get("response_format") or "json"
    words = "word" in (form.get("granularities") or ())
    if words and wanted != "verbose_json":
        raise Fault(400, "Times of words need response_format verbose_json.", param="timestamp_granularities[]")
    heat = form.get("temperature")
    hearing = Hearing(
        translate=translate,
        language=_language(form.get("language")),
        prompt=form.get("prompt") or None,
        temperature=(float(heat),) if heat else Hearing.temperature,
        words=words,
    )
    engine: TranscribeEngine = service.engine
    async with charged(request, "serve:audio", service.name, unit="seconds") as charge:
        # Read when its turn has come: what waits lies on disk.
        recording = await file.read()
        try:
            heard = await run_in_threadpool(engine.hear, recording, hearing)
        except InputError as error:
            words_ = f"{error.message}. {error.hint}" if error.hint else error.message
            raise Fault(400, words_, param="language" if "language" in error.message else "file") from None
        charge.prompt = _seconds(heard)
        if form.get("stream"):
            charge.goes_on = True
            return _streamed(heard)
        segments = await run_in_threadpool(list, heard.segments)
    return _rendered(heard, segments, wanted, translate)


def _language(given: str | None) -> str | None:
    """As ISO 639-1, also of what names a country too, like en-US."""
    return (given or "").strip().replace("_", "-").partition("-")[0].lower() or None


def _rendered(heard: Heard, segments: Sequence[Segment], wanted: str, translate: bool) -> Response:
    text = "".join(segment.text for segment in segments).strip()
    if wanted == "text":
        return PlainTextResponse(f"{text}\n")
    if wanted in ("srt", "vtt"):
        made = "".join(_captions(segments, wanted))
        return PlainTextResponse(made, media_type="application/x-subrip" if wanted == "srt" else "text/vtt")
    usage = {"type": "duration", "seconds": _seconds(heard)}
    if wanted == "json":
        return JSONResponse({"text": text, "usage": usage})
    spoken = [{"word": word.word.strip(), "start": word.start, "end": word.end} for s in segments for word in s.words]
    return JSONResponse(
        {
            "task": "translate" if translate else "transcribe",
            "language": heard.language,
            "duration": heard.duration,
            "text": text,
            "segments": [_segment(segment) for segment in segments],
            **({"words": spoken} if spoken else {}),
            "usage": usage,
        }
    )


def _seconds(heard: Heard) -> int:
    """What is billed, and told as usage."""
    return max(1, round(heard.duration))


def _segment(segment: Segment) -> dict[str, Any]:
    names = ("id", "start", "end", "text", "temperature", "avg_logprob", "compression_ratio", "no_speech_prob")
    values = {name: getattr(segment, name) for name in names}
    return {**values, "seek": 0, "tokens": list(segment.tokens)}


def _captions(segments: Sequence[Segment], wanted: str) -> Iterator[str]:
    mark = "," if wanted == "srt" else "."
    if wanted == "vtt":
        yield "WEBVTT\n\n"
    for number, segment in enumerate(segments, 1):
        head = f"{number}\n" if wanted == "srt" else ""
        # A caption ends at an empty line, and `-->` marks its time: neither belongs in its text.
        text = re.sub("-{2,}>", "->", " ".join(segment.text.split()))
        yield f"{head}{_clock(segment.start, mark)} --> {_clock(segment.end, mark)}\n{text}\n\n"


def _clock(seconds: float, mark: str) -> str:
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{mark}{rest % 1000:03}"


def _streamed(heard: Heard) -> StreamingResponse:
    """Events as segments are found, in the form of OpenAI's transcription streams."""

    async def events() -> AsyncIterator[str]:
        said = ""
        try:
            async for segment in iterate_in_threadpool(heard.segments):
                delta = segment.text if said else segment.text.lstrip()
                said += delta
                yield _event({"type": "transcript.text.delta", "delta": delta})
        except Exception as error:
            yield _event(fault_of(error).body())
            return
        usage = {"type": "duration", "seconds": _seconds(heard)}
        yield _event({"type": "transcript.text.done", "text": said.strip(), "usage": usage})

    return StreamingResponse(events(), media_type="text/event-stream", headers={"cache-control": "no-cache"})


def _event(values: dict[str, Any]) -> str:
    return f"data: {json.dumps(values, ensure_ascii=False)}\n\n"


async def speak(request: Request, body: SpeechRequest, registry: Registry) -> Response:
    """Say a text."""
    from allmend.engines.speech import sound

    service = services.find(registry, body.model, "speak")
    if body.instructions:
        raise unsupported("instructions", "instructions")
    engine: SpeakEngine = service.engine
    asked = body.voice.id if isinstance(body.voice, VoiceName) else body.voice
    voice = None if asked in _OPENAI_VOICES else asked
    own = (service.name, *engine.voices)
    if voice is not None and voice not in own:
        hint = nearest(voice, own)
        raise Fault(400, f"There is no voice {voice!r}. {hint}".rstrip(), param="voice", code="invalid_value")
    form = body.response_format or "mp3"
    async with charged(request, "serve:audio", service.name, unit="characters") as charge:
        charge.prompt = len(body.input)
        spoken = await run_in_threadpool(
            lambda: engine.speak(body.input, speed=body.speed or 1.0, voice=voice if voice in engine.voices else None)
        )
        if not spoken.samples:  # Players take a file without a sound for a broken one.
            raise Fault(400, "There is nothing to say in this text.", param="input", code="invalid_value")
    try:
        made = await asyncio.to_thread(sound.encoded, spoken, form)
    except ImportError:
        words = f"Making {form} needs the package av; wav is there without it."
        raise Fault(400, words, param="response_format", code="unsupported_parameter") from None
    which = voice or next(iter(engine.voices), service.name)
    headers = {"x-allmend-voice": which.encode("ascii", "replace").decode()}
    if body.stream_format == "sse":
        return _told(made, len(body.input), headers)
    return Response(made, media_type=sound.FORMATS[form][0], headers=headers)


def voices(registry: Registry, covers: Callable[[str], bool]) -> VoiceList:
    """Voices of the models that speak and that the key covers: the model's own name, or its speakers."""
    found = [
        Voice(id=voice, created_at=service.created, name=voice, model=service.name)
        for service in registry.services.all()
        if service.kind == "speak" and covers(service.name)
        for voice in tuple(service.engine.voices) or (service.name,)
    ]
    return VoiceList(data=found, voices=found)


def _told(sound: bytes, characters: int, headers: dict[str, str]) -> StreamingResponse:
    """A sound as events, in the form of OpenAI's speech streams; what is billed are characters."""

    def events() -> Iterator[str]:
        for place in range(0, len(sound), _PIECE):
            piece = base64.b64encode(sound[place : place + _PIECE]).decode()
            yield _event({"type": "speech.audio.delta", "audio": piece})
        usage = {"input_tokens": characters, "output_tokens": 0, "total_tokens": characters}
        yield _event({"type": "speech.audio.done", "usage": usage})

    return StreamingResponse(events(), media_type="text/event-stream", headers={"cache-control": "no-cache", **headers})
