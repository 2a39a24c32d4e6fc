"""What computes the answers of `allmend serve`: a model with an engine over it, here or in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allmend.errors import InputError, UsageError

if TYPE_CHECKING:
    from allmend.engines.text import TextEngine
    from allmend.models.fetch import Progress
    from allmend.nouns.choice import Choice
    from allmend.nouns.model import Model
    from allmend.serving.targets import Served
    from allmend.verbs.serve import ServeSettings

_CONTEXT = 4096
"""Tokens of prompt and answer with engines that hold all of it from the start."""
Note = Callable[[str, "Choice"], None]
"""Told of every automatic choice, with the model it is about."""


def load_text(name: str, settings: ServeSettings, progress: Progress | None, note: Note) -> tuple[Served, TextEngine]:
    """A model that writes text with its engine, in a process of its own where the settings say so."""
    isolate = settings.with_keys if settings.isolate is None else settings.isolate
    if not isolate:
        return load_engine(name, settings, progress=progress, note=note)
    from allmend.engines.apart.engine import start as start_apart
    from allmend.models.loading import load_tokenizer
    from allmend.models.resolve import resolve

    found = resolve(name, progress)  # Downloads and their progress are this process's.
    arguments = (name, settings.model_dump(mode="json"))
    engine, about = start_apart("allmend.verbs.serve_engine:_apart", arguments, limit=settings.hung_after)
    for each in about["choices"]:
        note(found.name, each)
    return Described(about["model"], load_tokenizer(found), about["template"], engine.context), engine


def _apart(name: str, values: dict[str, Any]) -> tuple[TextEngine, dict[str, Any]]:
    """In the engine's process: the engine, and what the server needs to know of it."""
    from allmend.verbs.serve import ServeSettings

    choices: list[Choice] = []
    settings = ServeSettings.of({**values, "isolate": False})
    loaded, engine = load_engine(name, settings, note=lambda model, choice: choices.append(choice))
    return engine, {"model": loaded.about, "template": loaded.template, "choices": choices}


def load_engine(
    model: str | Model,
    settings: ServeSettings,
    *,
    progress: Progress | None = None,
    note: Note = lambda model, choice: None,
) -> tuple[Served, TextEngine]:
    """A model in memory with an engine over it; every automatic choice goes to `note`."""
    from allmend.engines.torch.scheduler import Limits
    from allmend.engines.torch.setup import build_engine
    from allmend.models.loading import load
    from allmend.models.resolve import resolve

    found = resolve(model, progress) if isinstance(model, str) else model
    engine_choice = _engine(found, settings)
    if engine_choice.value != "torch" or settings.engine != "torch":
        note(found.name, engine_choice)
    if engine_choice.value != "torch":
        return _other(found, str(engine_choice.value), settings, progress, note)
    loaded = load(found, dtype=settings.dtype, progress=progress)
    for choice in loaded.choices:
        note(loaded.about.name, choice)
    engine = build_engine(
        loaded.model,
        loaded.tokenizer,
        context=min(settings.context or loaded.context, loaded.context),
        path="auto" if settings.batching else "plain",
        # A precision that was asked for is kept, unless another is asked for in so many words.
        weights=None if settings.dtype is not None and settings.weights == "auto" else settings.weights,
        take_over=True,
        cache_bytes=settings.memory,
        limits=Limits(running=settings.parallel),
        chosen=lambda choice: note(loaded.about.name, choice),
    )
    return loaded, engine


@dataclass
class Described:
    """What a registry needs to know of a model that an engine loads by itself."""

    about: Model
    tokenizer: Any
    template: str | None
    context: int


def _engine(model: Model, settings: ServeSettings) -> Choice:
    import torch

    from allmend.engines.choose import choose
    from allmend.engines.torch.native.build import library

    compiled, why = library()
    return choose(
        settings.engine,
        format=model.format,
        cuda=torch.cuda.is_available(),
        compiled=(compiled is not None, why),
        architecture_known=model.format != "gguf" or _convertible(model),
    )


def _convertible(model: Model) -> bool:
    from allmend.models.gguf import converted

    try:
        converted(model)
    except InputError:
        return False
    return True


def _other(
    model: Model, engine: str, settings: ServeSettings, progress: Progress | None, note: Note
) -> tuple[Described, TextEngine]:
    """A model with an engine that is not ours."""
    import torch

    from allmend.models.loading import load_tokenizer
    from allmend.nouns.choice import Choice

    if engine == "llamacpp" and model.format != "gguf":
        raise UsageError("the llamacpp engine reads GGUF files", where="--engine", hint="Serve with --engine torch.")
    if engine == "vllm" and model.format == "gguf":
        raise UsageError("the vllm engine reads no GGUF files", where="--engine", hint="Serve with --engine torch.")
    context = settings.context or _CONTEXT
    made: TextEngine
    if engine == "llamacpp":
        from allmend.engines.llamacpp.engine import LlamaCppEngine

        tokenizer = load_tokenizer(model, progress)
        # llama.cpp holds memory for every slot from the beginning.
        parallel, threads = min(settings.parallel, 8), torch.get_num_threads()
        note(model.name, Choice(name="slots", value=parallel, reason="llama.cpp holds memory for each from the start"))
        made = LlamaCppEngine(
            model.path, context=context, parallel=parallel, threads=threads, vocabulary=len(tokenizer)
        )
    else:
        from allmend.engines.vllm.engine import VllmEngine

        made = VllmEngine(model.path, context=context, parallel=settings.parallel, slots=settings.slots)
        tokenizer = load_tokenizer(model, progress)
    template = getattr(tokenizer, "chat_template", None)
    return Described(model, tokenizer, template if isinstance(template, str) else None, context), made
