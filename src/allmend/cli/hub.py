"""`allmend hub`, `allmend hub collect`."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from allmend.cli.show import notes, out, print_json
from allmend.verbs.hub_collect import HubCollectSettings, hub_collect
from allmend.verbs.start_hub import StartHubSettings, start_hub, wait

if TYPE_CHECKING:
    from allmend.hub.server import HubServer

app = App(name="hub", help="A hub of your own, for the tools that everyone uses already.")


@app.default
def command(
    *,
    settings: Annotated[StartHubSettings, Parameter(name="*")] = StartHubSettings(),  # noqa: B008
) -> None:
    """Serve repositories of models, data and notebooks, until Ctrl-C.

    `huggingface_hub`, `transformers`, `datasets` and the `hf` command work against it once HF_ENDPOINT names it. The
    first start makes an administrator and prints the key, this once; `allmend keys` makes more.

    Ends with exit code 130 when it is stopped.
    """
    signal.signal(signal.SIGTERM, _stop)
    server = start_hub(**dict(settings))
    _show(server)
    wait(server)


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _show(server: HubServer) -> None:
    from allmend.database import shown_address

    show = out().print
    show(f"[bold]The hub answers at {server.url}[/bold]  (Ctrl-C ends it)")
    if server.first is not None:
        show(f"  The administrator is {server.first.key.account}. This key is shown this once:", markup=False)
    show(f"export HF_ENDPOINT={server.url}", markup=False, soft_wrap=True)
    token = server.token or "YOUR_KEY"
    show(f"export HF_TOKEN={token}", markup=False, soft_wrap=True)
    if server.first is None:
        place = shown_address()
        words = f"  ALLMEND_DATABASE={place} allmend keys create NAME --scope hub:write   makes a key"
        notes().print(words, style="dim", markup=False, soft_wrap=True)
    out().file.flush()


@app.command(name="collect")
def collect_command(
    *,
    settings: Annotated[HubCollectSettings, Parameter(name="*")] = HubCollectSettings(),  # noqa: B008
    json: bool = False,
) -> None:
    """Take contents away that no repository's commit, tag or pull request leads to any more.

    What was uploaded lately is left alone: its commit may be on its way. The hub may run meanwhile.

    Parameters
    ----------
    json
        Print what was taken away as JSON.
    """
    found = hub_collect(**dict(settings))
    if json:
        print_json(found)
        return
    out().print(
        f"{found['objects']:,} objects, {found['bytes'] / 2**20:,.0f} MiB taken away; "
        f"{found['trees']:,} folders forgotten.",
        markup=False,
    )
