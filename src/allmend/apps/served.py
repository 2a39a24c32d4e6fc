"""One notebook as its routes see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi.responses import HTMLResponse
from starlette.background import BackgroundTask

from allmend.apps.notebook import NotebookApp
from allmend.apps.queue import Queue
from allmend.apps.runs import AppRun
from allmend.apps.store import Store
from allmend.errors import NotFound


@dataclass(frozen=True)
class Served:
    """One notebook under `base`, with its runs.

    Attributes:
        may_ask: whether a visitor may be asked to permit more.
        whole: the page, which is the same for everybody.
    """

    app: NotebookApp
    base: str
    store: Store
    queue: Queue
    may_ask: bool
    whole: str

    def find(self, run_id: str) -> AppRun:
        """A run of this notebook; raises `NotFound`."""
        return self.store.find(self.app.slug, run_id)

    def page(self) -> HTMLResponse:
        """The notebook's page."""
        return HTMLResponse(self.whole, background=BackgroundTask(self.app.looked_at))

    def shown(self, run: AppRun) -> dict[str, Any]:
        """A run as its visitor sees it."""
        place = self.queue.place(run)
        folder = run.folder / "outputs"
        names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())[:1000]
        more: dict[str, Any] = (
            {"place": place, "estimate_seconds": self.queue.estimate(run)} if place is not None else {}
        )
        if self.store.registry is not None:
            more["servers"] = [each.port for each in self.store.registry.of(run.id)]
        return run.shown() | more | {"outputs": names, "receipt": (run.folder / "receipt.json").is_file()}

    def link(self, run_id: str, port: int) -> str:
        """A link to a web server of a run; raises `NotFound`."""
        shown = self.store.registry.of(self.find(run_id).id) if self.store.registry is not None else []
        found = next((each for each in shown if each.port == port), None)
        if found is None or self.store.registry is None:
            raise NotFound("the run shows no web server at that port")
        return self.store.registry.link(found)
