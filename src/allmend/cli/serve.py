"""`allmend serve`."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from allmend.cli.show import notes, out
from allmend.verbs.serve import ServeSettings, start, wait_for_end

if TYPE_CHECKING:
    from allmend.nouns.choice import Choice
    from allmend.serving.server import Server


def command(
    models: Annotated[list[str], Parameter(name="MODEL")],
    /,
    *,
    settings: Annotated[ServeSettings, Parameter(name="*")] = ServeSettings(),  # noqa: B008
) -> None:
    """Serve models and personal adapters behind the OpenAI API, until Ctrl-C.

    Ends with exit code 130 when it is stopped, after the answers under way have had their time.

    Parameters
    ----------
    models
        Models to serve: a name from `allmend models`, OWNER/NAME on a hub, a folder, a .gguf file.
    """
    signal.signal(signal.SIGTERM, _stop)
    if settings.with_keys:
        _first_key()
    server = start(models, **dict(settings), progress=show_progress(), note=show_choice)
    _show(server, with_key=not server.desk.is_open)
    wait_for_end(server, grace=settings.grace)


def _first_key() -> None:
    """The administrator's key, where there is no account at all yet."""
    from allmend.access import keys

    made = keys.first_administrator()
    if made is not None:
        out().print("The administrator's key, shown this once (`allmend keys create` makes others):", markup=False)
        out().print(f"  {made.text}", markup=False)


def show_choice(model: str, choice: Choice) -> None:
    """A line on stderr for an automatic choice."""
    notes().print(f"  {choice.name}: {choice.value}  ({choice.reason})", style="dim", markup=False)


class show_progress:  # noqa: N801
    """Prints how far a download or conversion is, at most once a tenth of it."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        """Tell `done` of `total` bytes."""
        tenth = 10 * done // total if total else 0
        if self._told.get(what) != tenth:
            self._told[what] = tenth
            share = f"{done / 2**20:,.0f} of {total / 2**20:,.0f} MiB" if total else ""
            notes().print(f"  {what}  {share}", style="dim", markup=False)


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _show(server: Server, *, with_key: bool) -> None:
    from allmend.models.kind import SAID

    registry = server.registry
    show = out().print
    show(f"[bold]Serving at {server.url}/v1[/bold]  (Ctrl-C ends it)")
    for base in registry.bases():
        show(f"  {base.name}  context {base.engine.context}, template {base.template.name}", markup=False)
        for adapter in registry.adapters():
            if adapter.base == base.name:
                template = adapter.template.name if adapter.template else base.template.name
                show(f"    {adapter.name}  adapter {adapter.digest[:12]}, template {template}", markup=False)
    for service in registry.services.all():
        show(f"  {service.name}  {SAID[service.kind]}", markup=False)
    for name in registry.stores.shared if registry.stores else ():
        show(f"  {name}  documents to search in", markup=False)
    header = ' -H "Authorization: Bearer $ALLMEND_API_KEY"' if with_key else ""
    if not registry.bases():
        show(f"Try it: curl {server.url}/v1/models{header}", markup=False, soft_wrap=True)
        out().file.flush()
        return
    asked = (registry.adapters() or registry.bases())[-1].name
    # The client reads the key from the environment by itself, by another name.
    before, key = ('OPENAI_API_KEY="$ALLMEND_API_KEY" ', "") if with_key else ("", ', api_key="none"')
    body = f'{{"model": "{asked}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
    show("Try it:")
    show(
        f"  curl {server.url}/v1/chat/completions{header} -H 'Content-Type: application/json' -d '{body}'",
        markup=False,
        soft_wrap=True,
    )
    show(
        f'  {before}python -c \'from openai import OpenAI; c = OpenAI(base_url="{server.url}/v1"{key}); '
        f'print(c.chat.completions.create(model="{asked}", '
        f'messages=[{{"role": "user", "content": "Hello"}}]).choices[0].message.content)\'',
        markup=False,
        soft_wrap=True,
    )
    out().file.flush()
