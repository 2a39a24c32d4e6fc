"""`allmend serve`: models and personal adapters behind the OpenAI API."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from allmend.errors import InputError, UsageError
from allmend.verbs.settings import Duration, Settings, Size

if TYPE_CHECKING:
    from allmend.engines.text import TextEngine
    from allmend.models.fetch import Progress
    from allmend.nouns.choice import Choice
    from allmend.nouns.model import Model
    from allmend.serving.desk import Desk
    from allmend.serving.registry import Served
    from allmend.serving.server import Server

_CONTEXT = 4096
"""Tokens of prompt and answer with engines that hold all of it from the start."""
KEY_VARIABLE = "ALLMEND_API_KEY"
Note = Callable[[str, "Choice"], None]
"""Told of every automatic choice, with the model it is about."""


class ServeSettings(Settings):
    """Settings of `allmend serve`."""

    adapter: tuple[str, ...] = ()
    """An adapter as NAME=REF; REF is its folder, a run, or OWNER/NAME@REV on a hub. May be given many times."""

    host: str = "127.0.0.1"
    """Address to listen on. Any other than this machine's own needs keys, and TLS or --insecure."""

    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 takes any free one."""

    api_key: str | None = None
    """What clients must send as their key; also read from ALLMEND_API_KEY."""

    with_keys: bool = False
    """Ask for keys of `allmend keys`, hold them to their limits, and keep the ledger of usage."""

    tls_cert: str | None = None
    """Certificate for TLS, a PEM file, with those that lead to its authority."""

    tls_key: str | None = None
    """Key of the certificate, a PEM file."""

    insecure: bool = False
    """Listen for others without TLS: for a server behind something that encrypts."""

    isolate: bool | None = None
    """Compute in a process of its own, which is started again when it crashes; done with --with-keys when not given."""

    queue: int = Field(1024, ge=0)
    """Answers that may wait for their turn; beyond that requests are refused with 429."""

    wait: Duration = 10.0
    """Longest time that a request may be expected to wait; beyond that it is refused with 429."""

    fallback: tuple[str, ...] = ()
    """MODEL=OTHER: what answers, and says so, where MODEL would be refused with 429. May be given many times."""

    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Precision of the weights; chosen from what the processor has when not given."""

    engine: Literal["auto", "torch", "llamacpp", "vllm"] = "auto"
    """What computes answers; auto chooses by the model's format and what this machine has, and says why."""

    weights: Literal["auto", "float32", "bfloat16", "int8", "int4"] = "auto"
    """Precision of the matrices while answering on a processor; auto is int8 where compiled steps can be had."""

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

    slots: int = Field(64, ge=1)
    """Adapters ready at once; others come back when they are asked for, from memory or from disk."""

    adapter_memory: Size = Field(2**30, ge=0)
    """Memory for adapters beyond the slots, as they were laid out; 0 reads them from disk each time."""

    on_demand: bool = True
    """Look for adapters that a request names and nobody added: among runs, on the hub, in the folder of adapters."""

    adapter_folder: str | None = None
    """A folder of adapters that requests may name by their folder's name."""

    loading: bool = True
    """Let clients load and unload adapters by /v1/load_lora_adapter and /v1/unload_lora_adapter."""

    index: tuple[str, ...] = ()
    """Documents to search in: an index by its NAME, or NAME=FOLDER, which is indexed first. May be given many times."""

    norms: str | None = None
    """A file of norms that /v1/moderations holds texts against."""

    log: bool = False
    """Write a line of JSON to stderr for every request."""

    grace: Duration = 10.0
    """How long answers under way may go on when the server is told to stop."""


def serve(
    models: str | Sequence[str],
    *,
    adapter: Sequence[str] = (),
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    with_keys: bool = False,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    insecure: bool = False,
    isolate: bool | None = None,
    queue: int = 1024,
    wait: float | str = 10.0,
    fallback: Sequence[str] = (),
    dtype: str | None = None,
    engine: str = "auto",
    weights: str = "auto",
    context: int | None = None,
    answer: int = 1024,
    parallel: int = 32,
    memory: int | str = 2 * 2**30,
    batching: bool = True,
    slots: int = 64,
    adapter_memory: int | str = 2**30,
    on_demand: bool = True,
    adapter_folder: str | None = None,
    loading: bool = True,
    index: Sequence[str] = (),
    norms: str | None = None,
    log: bool = False,
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
    server = start(models, **dict(settings))
    wait_for_end(server, grace=settings.grace)


def start(
    models: str | Sequence[str],
    *,
    adapter: Sequence[str] = (),
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    with_keys: bool = False,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    insecure: bool = False,
    isolate: bool | None = None,
    queue: int = 1024,
    wait: float | str = 10.0,
    fallback: Sequence[str] = (),
    dtype: str | None = None,
    engine: str = "auto",
    weights: str = "auto",
    context: int | None = None,
    answer: int = 1024,
    parallel: int = 32,
    memory: int | str = 2 * 2**30,
    batching: bool = True,
    slots: int = 64,
    adapter_memory: int | str = 2**30,
    on_demand: bool = True,
    adapter_folder: str | None = None,
    loading: bool = True,
    index: Sequence[str] = (),
    norms: str | None = None,
    log: bool = False,
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
    from allmend.models.kind import kind_of
    from allmend.models.resolve import resolve
    from allmend.serving import adapter_refs, server
    from allmend.serving.app import create_app
    from allmend.serving.more import Kept
    from allmend.serving.registry import Registry
    from allmend.verbs.serve_services import load_service, open_indexes
    from allmend.verdicts.norms import read as read_norms

    # Everything that can be refused is refused before a model is fetched or loaded.
    tls = server.tls_options(settings.tls_cert, settings.tls_key)
    has_key = settings.with_keys or key is not None
    server.check_exposure(settings.host, key=has_key, tls=bool(tls), insecure=settings.insecure)
    fallbacks = dict(adapter_refs.split(text, "--fallback") for text in settings.fallback)
    wanted = [adapter_refs.split(text) for text in settings.adapter]
    with ExitStack() as undo:
        listening = server.bind(settings.host, settings.port)
        undo.callback(listening.close)
        names, wanted = releases(names, wanted)
        adapters = [(name, adapter_refs.read(reference)) for name, reference in wanted]
        folder = Path(settings.adapter_folder).expanduser() if settings.adapter_folder else None
        fetch = adapter_refs.on_demand(folder) if settings.on_demand else None
        registry = Registry(slots=settings.slots, beside=settings.adapter_memory, fetch=fetch)
        undo.callback(registry.close)
        rules = read_norms(settings.norms) if settings.norms is not None else None

        def load(name: str) -> tuple[Served, TextEngine]:
            return _load(name, settings, progress, note)

        for name in names:
            found = resolve(name, progress)
            if (kind := kind_of(found)) != "text":
                registry.services.add(found, kind, load_service(found, kind, dtype=settings.dtype, note=note))
                continue
            loaded, made = load(name)
            registry.add_base(loaded, made, answer_limit=settings.answer)
        indexes = open_indexes(settings.index, registry, progress=progress, note=note)
        for name, read in adapters:
            registry.add_adapter(name, read)
        desk = _desk(settings, key, fallbacks)
        undo.callback(desk.close)
        app = create_app(
            registry,
            desk=desk,
            loopback=server.is_loopback(settings.host),
            loading=settings.loading,
            log=settings.log,
            load=load,
            kept=Kept(norms=rules, indexes=indexes),
        )
        running = server.Server(app, registry, listening, settings.host, desk=desk, **tls).start()
        undo.pop_all()
    return running


def _desk(settings: ServeSettings, key: str | None, fallbacks: dict[str, str]) -> Desk:
    from allmend.serving.desk import Desk, with_keys

    options: dict[str, Any] = {
        "word": key,
        "parallel": settings.parallel,
        "longest": settings.wait,
        "queue": settings.queue,
        "fallbacks": fallbacks,
    }
    return with_keys(**options) if settings.with_keys else Desk(**options)


def _load(name: str, settings: ServeSettings, progress: Progress | None, note: Note) -> tuple[Served, TextEngine]:
    isolate = settings.with_keys if settings.isolate is None else settings.isolate
    if not isolate:
        return load_engine(name, settings, progress=progress, note=note)
    from allmend.engines.apart.engine import start as start_apart
    from allmend.models.loading import load_tokenizer
    from allmend.models.resolve import resolve

    found = resolve(name, progress)  # Downloads and their progress are this process's.
    engine, about = start_apart("allmend.verbs.serve:_apart", (name, settings.model_dump(mode="json")))
    for each in about["choices"]:
        note(found.name, each)
    return Described(about["model"], load_tokenizer(found), about["template"], engine.context), engine


def _apart(name: str, values: dict[str, Any]) -> tuple[TextEngine, dict[str, Any]]:
    """In the engine's process: the engine, and what the server needs to know of it."""
    choices: list[Choice] = []
    settings = ServeSettings.of({**values, "isolate": False})
    loaded, engine = load_engine(name, settings, note=lambda model, choice: choices.append(choice))
    return engine, {"model": loaded.about, "template": loaded.template, "choices": choices}


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


def wait_for_end(server: Server, *, grace: float) -> None:
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
