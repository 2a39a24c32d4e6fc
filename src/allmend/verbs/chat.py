"""`allmend chat`: talk to a model, base beside tuned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from allmend.verbs.serve import ServeSettings
from allmend.verbs.serve_engine import Note, load_engine
from allmend.verbs.settings import Settings

if TYPE_CHECKING:
    from allmend.models.fetch import Progress
    from allmend.serving.registry import Registry


class ChatSettings(Settings):
    """Settings of `allmend chat`."""

    adapter: tuple[str, ...] = ()
    """An adapter as NAME=REF, to hear beside the model; REF is a folder, a run, or OWNER/NAME@REV."""

    system: str | None = None
    """Instructions given before the conversation."""

    max_tokens: int = Field(512, ge=1)
    """Most tokens of an answer."""

    temperature: float = Field(0.7, ge=0, le=2)
    """0 always takes the likeliest token."""

    seed: int | None = None
    """The same seed gives the same answers."""

    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Precision of the weights; chosen from what the processor has when not given."""

    only_tuned: bool = False
    """Hear the adapter alone, without the model it was made from."""


@dataclass
class Voice:
    """One who answers: the base model or an adapter on it, with the conversation as it went with that one."""

    name: str
    registry: Registry
    settings: ChatSettings
    messages: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.forget()

    @property
    def template(self) -> str:
        """Name of the chat template in use."""
        return self.registry.find(self.name).template.name

    def forget(self) -> None:
        """Begin the conversation anew."""
        self.messages.clear()
        if self.settings.system:
            self.messages.append({"role": "system", "content": self.settings.system})

    def say(self, text: str) -> Iterator[str]:
        """The answer to `text`, in pieces; it becomes part of the conversation when it has ended.

        The oldest turns are left out where the conversation has outgrown the context. Raises `DoesNotFit` when the
        last message alone does not fit.
        """
        from allmend.data.tokens import encode_prompt
        from allmend.engines.text import Sampling, TextRequest
        from allmend.errors import DoesNotFit, Unavailable

        target = self.registry.find(self.name)
        engine = target.base.engine
        asked = [*self.messages, {"role": "user", "content": text}]
        first = 1 if self.settings.system else 0
        prompt = encode_prompt(asked, target.base.tokenizer, target.template)
        while len(prompt) >= engine.context and len(asked) > first + 2:
            del asked[first : first + 2]
            prompt = encode_prompt(asked, target.base.tokenizer, target.template)
        if len(prompt) >= engine.context:
            raise DoesNotFit(f"that is {len(prompt)} tokens; the context holds {engine.context}")
        sampling = Sampling(
            max_tokens=self.settings.max_tokens,
            temperature=self.settings.temperature,
            seed=self.settings.seed,
            stop=target.turn_stops,
            drop_space=target.drops_space,
        )
        answer = []
        for _, piece in engine.generate([TextRequest(tuple(prompt), sampling, target.uses)]):
            if piece.finish == "error":
                raise Unavailable(piece.error or "the model failed")
            answer.append(piece.text)
            if piece.text:
                yield piece.text
        self.messages = [*asked, {"role": "assistant", "content": "".join(answer)}]


@dataclass
class Chat:
    """A conversation with a model, and with each adapter beside it."""

    voices: list[Voice]
    registry: Registry

    def close(self) -> None:
        """Free the model."""
        self.registry.close()

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def chat(
    model: str,
    *,
    adapter: Sequence[str] = (),
    system: str | None = None,
    max_tokens: int = 512,
    temperature: float = 0.7,
    seed: int | None = None,
    dtype: str | None = None,
    only_tuned: bool = False,
    progress: Progress | None = None,
    note: Note = lambda model, choice: None,
) -> Chat:
    """Load a model to talk to; `Chat.voices` answer. See `ChatSettings` for the keywords.

    Raises:
        NotFound, InputError, FetchError: the model or an adapter cannot be had or used.
    """
    given = {key: value for key, value in locals().items() if key not in ("model", "progress", "note")}
    settings = ChatSettings.of(given)
    from allmend.serving import adapter_refs
    from allmend.serving.registry import Registry

    wanted = [adapter_refs.split(text) for text in settings.adapter]
    adapters = [(name, adapter_refs.read(reference)) for name, reference in wanted]
    registry = Registry()
    try:
        loaded, engine = load_engine(model, ServeSettings(dtype=settings.dtype), progress=progress, note=note)
        base = registry.add_base(loaded, engine)
        names = [registry.add_adapter(name, weights).name for name, weights in adapters]
    except BaseException:
        registry.close()
        raise
    if not (settings.only_tuned and names):
        names.insert(0, base.name)
    return Chat([Voice(name, registry, settings) for name in names], registry)
