"""`allmend serve`: models and personal adapters behind the OpenAI API."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from allmend.errors import UsageError
from allmend.verbs.settings import Duration, Settings, Size

if TYPE_CHECKING:
    from allmend.engines.torch.engine import TorchTextEngine
    from allmend.models.fetch import Progress
    from allmend.models.loading import Loaded
    from allmend.nouns.choice import Choice
    from allmend.serving.server import Server

KEY_VARIABLE = "ALLMEND_API_KEY"
Note = Callable[[str, "Choice"], None]
"""Told of every automatic choice, with the model it is about."""


class ServeSettings(Settings):
    """Settings of `allmend serve`."""

    adapter: tuple[str, ...] = ()
    """An adapter as NAME=REF; REF is its folder, a run, or OWNER/NAME@REV on a hub. May be given many times."""

    host: str = "127.0.0.1"
    """Address to listen on. Any other than this machine's own needs an API key."""

    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 takes any free one."""

    api_key: str | None = None
    """What clients must send as their key; also read from ALLMEND_API_KEY."""

    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Precision of the weights; chosen from what the processor has when not given."""

    context: int | None = Field(None, ge=16)
    """Most tokens of prompt and answer together; the model's own limit when not given."""

    answer: int = Field(1024, ge=1)
    """Most tokens of a chat answer whose request names no limit of its own."""

    parallel: int = Field(32, ge=1, le=1024)
    """Answers that are generated at once; the rest waits its turn."""

    memory: Size = Field(2 * 2**30, ge=2**20)
    """Memory for keys and values of everything that runs at once."""

    batching: bool = True
    """Compute all running answers in one step; without it one after the other, through transformers alone."""

    grace: Duration = 10.0
    """How long answers under way may go on when the server is told to stop."""


def serve(
    models: str | Sequence[str],
    *,
    adapter: Sequence[str] = (),
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    dtype: str | None = None,
    context: int | None = None,
    answer: int = 1024,
    parallel: int = 32,
    memory: int | str = 2 * 2**30,
    batching: bool = True,
    grace: float | str = 10.0,
) -> None:
    """Serve until Ctrl-C or SIGTERM, which end as `KeyboardInterrupt`; see `ServeSettings` for the keywords.

    Raises:
        Unavailable: the port is taken.
        Refused: others could reach it and there is no key.
        NotFound, InputError, FetchError: a model or adapter cannot be had or used.
    """
    given = {key: value for key, value in locals().items() if key != "models"}
    settings = ServeSettings.of(given)
    server = start(models, **{**dict(settings), "grace": settings.grace})
    wait(server, grace=settings.grace)


def start(
    models: str | Sequence[str],
    *,
    adapter: Sequence[str] = (),
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    dtype: str | None = None,
    context: int | None = None,
    answer: int = 1024,
    parallel: int = 32,
    memory: int | str = 2 * 2**30,
    batching: bool = True,
    grace: float | str = 10.0,
    progress: Progress | None = None,
    note: Note = lambda model, choice: None,
) -> Server:
    """Serve from a thread of this process; close the `Server` when done. Keywords and errors as of `serve`."""
    given = {key: value for key, value in locals().items() if key not in ("models", "progress", "note")}
    settings = ServeSettings.of(given)
    names = [models] if isinstance(models, str) else list(models)
    if not names:
        raise UsageError("name at least one model", hint="Try: allmend serve gemma-3-270m")
    key = settings.api_key or os.environ.get(KEY_VARIABLE) or None
    from allmend.serving import adapter_refs, server
    from allmend.serving.app import create_app
    from allmend.serving.registry import Registry

    # Everything that can be refused is refused before a model is fetched or loaded.
    server.check_key(settings.host, key)
    wanted = [adapter_refs.split(text) for text in settings.adapter]
    with ExitStack() as undo:
        listening = server.bind(settings.host, settings.port)
        undo.callback(listening.close)
        names, wanted = releases(names, wanted)
        adapters = [(name, adapter_refs.read(reference)) for name, reference in wanted]
        registry = Registry()
        undo.callback(registry.close)
        for name in names:
            loaded, engine = load_engine(name, settings, progress=progress, note=note)
            registry.add_base(loaded, engine, answer_limit=settings.answer)
        for name, weights in adapters:
            registry.add_adapter(name, weights)
        app = create_app(registry, key=key, loopback=server.is_loopback(settings.host))
        running = server.Server(app, registry, listening, settings.host).start()
        undo.pop_all()
    return running


def releases(names: list[str], wanted: list[tuple[str, str]]) -> tuple[list[str], list[tuple[str, str]]]:
    """Folders made by `allmend ship` as what is in them: the merged model, or the adapter on its base."""
    from allmend.releases.opened import served

    models, adapters = [], list(wanted)
    for name in names:
        found = served(name)
        model = name if found is None else found.model
        if model not in models:
            models.append(model)
        if found is not None and found.adapter is not None:
            adapters.append((found.adapter[0], str(found.adapter[1])))
    return models, adapters


def load_engine(
    model: str,
    settings: ServeSettings,
    *,
    progress: Progress | None = None,
    note: Note = lambda model, choice: None,
) -> tuple[Loaded, TorchTextEngine]:
    """A model in memory with an engine over it; every automatic choice goes to `note`."""
    from allmend.engines.torch.scheduler import Limits
    from allmend.engines.torch.setup import build_engine
    from allmend.models.loading import load
    from allmend.models.resolve import resolve

    loaded = load(resolve(model, progress), dtype=settings.dtype, progress=progress)
    for choice in loaded.choices:
        note(loaded.about.name, choice)
    engine = build_engine(
        loaded.model,
        loaded.tokenizer,
        context=min(settings.context or loaded.context, loaded.context),
        path="auto" if settings.batching else "plain",
        cache_bytes=settings.memory,
        limits=Limits(running=settings.parallel),
        chosen=lambda choice: note(loaded.about.name, choice),
    )
    return loaded, engine


def wait(server: Server, *, grace: float) -> None:
    """Block until Ctrl-C or SIGTERM, then close: `grace` seconds for answers under way, none after a second Ctrl-C.

    Raises `KeyboardInterrupt` when it is done.
    """
    import signal
    import threading

    asked = threading.Event()
    again = threading.Event()

    def stop(number: int, frame: object) -> None:
        (again if asked.is_set() else asked).set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while not asked.wait(0.5):
            server.check_alive()
        server.close(grace=grace, hurry=again)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    raise KeyboardInterrupt
