"""`allmend serve`: models and personal adapters behind the OpenAI API."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from allmend.errors import AllmendError, UsageError
from allmend.verbs.serve_engine import Note
from allmend.verbs.settings import Duration, Limit, Settings, Size

if TYPE_CHECKING:
    from allmend.engines.text import TextEngine
    from allmend.models.fetch import Progress
    from allmend.serving.desk import Desk
    from allmend.serving.registry import Registry
    from allmend.serving.server import Server
    from allmend.serving.targets import Served

KEY_VARIABLE = "ALLMEND_API_KEY"


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

    origin: tuple[str, ...] = ()
    """Address of a web page whose scripts may call, like https://app.example.org; * for all. Repeatable."""

    isolate: bool | None = None
    """Compute in a process of its own, which is started again when it crashes; done with --with-keys when not given."""

    hung_after: Limit = 300.0
    """Time without a sign of life after which the process of --isolate is started again; 0 waits for ever."""

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

    keep: Limit = 30 * 86400.0
    """How long files of batches, batches that ended and stores that expired are kept where nobody named a time; 0
    keeps them."""

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
    origin: Sequence[str] = (),
    isolate: bool | None = None,
    hung_after: float | str = 300.0,
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
    keep: float | str = 30 * 86400.0,
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
    progress: Progress | None = None,
    note: Note = lambda model, choice: None,
    **keywords: Any,
) -> Server:
    """Serve from a thread of this process; close the `Server` when done. Keywords and errors as of `serve`."""
    settings = ServeSettings.of(keywords)
    names = [models] if isinstance(models, str) else list(models)
    if not names:
        raise UsageError("name at least one model", hint="Try: allmend serve gemma-3-270m")
    key = settings.api_key or os.environ.get(KEY_VARIABLE) or None
    from allmend.serving import adapter_refs, edges, server
    from allmend.serving.app import create_app
    from allmend.serving.more import Kept
    from allmend.verbs.serve_engine import load_text
    from allmend.verbs.serve_services import open_indexes
    from allmend.verdicts.norms import read as read_norms

    # Everything that can be refused is refused before a model is fetched or loaded.
    tls = server.tls_options(settings.tls_cert, settings.tls_key)
    has_key = settings.with_keys or key is not None
    server.check_exposure(settings.host, key=has_key, tls=bool(tls), insecure=settings.insecure)
    origins = edges.origins(settings.origin, has_key=has_key)
    fallbacks = [adapter_refs.split_fallback(text) for text in settings.fallback]
    wanted = [adapter_refs.split(text) for text in settings.adapter]
    with ExitStack() as undo:
        listening = server.bind(settings.host, settings.port)
        undo.callback(listening.close)
        names, wanted = releases(names, wanted)
        adapters = [(name, adapter_refs.read(reference)) for name, reference in wanted]
        registry = _registry(settings)
        undo.callback(registry.close)
        rules = read_norms(settings.norms) if settings.norms is not None else None

        def load(name: str) -> tuple[Served, TextEngine]:
            return load_text(name, settings, progress, note)

        for name in names:
            _add(registry, name, settings, load, progress, note)
        indexes = open_indexes(settings.index, registry, progress=progress, note=note)
        for name, read in adapters:
            registry.add_adapter(name, read)
        desk = _desk(settings, key, _fallbacks(fallbacks, registry))
        undo.callback(desk.close)
        app = create_app(
            registry,
            desk=desk,
            loopback=server.is_loopback(settings.host),
            loading=settings.loading,
            log=settings.log,
            load=load,
            kept=Kept(norms=rules, indexes=indexes, seconds=settings.keep),
            origins=origins,
        )
        running = server.Server(app, registry, listening, settings.host, desk=desk, **tls).start()
        undo.pop_all()
    return running


def _registry(settings: ServeSettings) -> Registry:
    from allmend.serving import adapter_refs
    from allmend.serving.registry import Registry

    folder = Path(settings.adapter_folder).expanduser() if settings.adapter_folder else None
    fetch = adapter_refs.on_demand(folder) if settings.on_demand else None
    return Registry(slots=settings.slots, beside=settings.adapter_memory, fetch=fetch)


def _add(
    registry: Registry,
    name: str,
    settings: ServeSettings,
    load: Callable[[str], tuple[Served, TextEngine]],
    progress: Progress | None,
    note: Note,
) -> None:
    """Load one model, as a language model or as the service that its kind is for."""
    from allmend.models.kind import kind_of
    from allmend.models.resolve import resolve
    from allmend.verbs.serve_services import load_service

    found = resolve(name, progress)
    if (kind := kind_of(found)) != "text":
        registry.services.add(found, kind, load_service(found, kind, dtype=settings.dtype, note=note))
        return
    loaded, made = load(name)
    registry.add_base(loaded, made, answer_limit=settings.answer)


def _fallbacks(wanted: list[tuple[str, str]], registry: Registry) -> dict[str, str]:
    """MODEL: OTHER, by the names they are served under; a folder may be named by its last part.

    Raises `UsageError` for one that could not answer: that would be found out under the worst load.
    """
    names = [*(base.name for base in registry.bases()), *(adapter.name for adapter in registry.adapters())]

    def served(name: str) -> str:
        found = [each for each in names if each == name] or [each for each in names if Path(each).name == name]
        if len(found) == 1:
            return found[0]
        try:
            registry.find(name)
        except AllmendError as error:
            raise UsageError(f"{name!r} is not served here", where="--fallback", hint=error.hint) from None
        return name  # In one of the other spellings.

    made: dict[str, str] = {}
    for name, other in wanted:
        # What stands in has to be there; what it stands in for may come with its first request.
        model = name if "/" in name and registry.unknown(name) else served(name)
        made[model] = served(other)
        if made[model] == model:
            raise UsageError(f"{model!r} cannot stand in for itself", where="--fallback")
    return made


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
