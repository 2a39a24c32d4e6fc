"""Routes of what a run gives out: outputs of cells, files, the receipt, the executed notebook."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse

from allmend.apps.served import Served
from allmend.errors import NotFound
from allmend.pages import fragment, frame, frame_policy


def add(routes: APIRouter, served: Served) -> None:
    """Add them."""

    @routes.get("/runs/{run_id}/cells/{cell}", include_in_schema=False)
    def cell(run_id: str, cell: int, after: int = 0) -> HTMLResponse:
        """The outputs of a cell from number `after` on."""
        outputs = list(served.find(run_id).cells.get(cell, []))
        made = fragment(outputs, f"{served.base}/runs/{run_id}/frames/{cell}/", after=max(0, after))
        return HTMLResponse(made, headers={"X-Outputs": str(len(outputs))})

    @routes.get("/runs/{run_id}/frames/{cell}/{number}", include_in_schema=False)
    def framed(run_id: str, cell: int, number: int) -> HTMLResponse:
        outputs = served.find(run_id).cells.get(cell, [])
        text = frame(outputs[number]) if 0 <= number < len(outputs) else ""
        return HTMLResponse(text, headers={"Content-Security-Policy": frame_policy})

    @routes.get("/runs/{run_id}/outputs/{name:path}")
    def output(run_id: str, name: str) -> FileResponse:
        """A file that the run gave out, by name."""
        return _file(served.find(run_id).folder / "outputs", name)

    @routes.get("/runs/{run_id}/receipt")
    def receipt(run_id: str, request: Request) -> FileResponse:
        """The receipt: JSON, or a page for a browser."""
        wants_page = "text/html" in request.headers.get("accept", "")
        return _file(served.find(run_id).folder, "receipt.html" if wants_page else "receipt.json", inline=True)

    @routes.get("/runs/{run_id}/notebook")
    def notebook(run_id: str) -> FileResponse:
        """The executed notebook."""
        return _file(served.find(run_id).folder, f"{served.app.path.stem}.ipynb")


def _file(folder: Path, name: str, *, inline: bool = False) -> FileResponse:
    """A file inside `folder`, never one that a link or a name leads out to."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise NotFound("there is no such file")
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    safe = kind.startswith(("image/", "audio/", "video/", "text/plain")) and kind != "image/svg+xml"
    headers = {"X-Content-Type-Options": "nosniff"}
    if inline:
        return FileResponse(path, media_type=kind, headers=headers)
    disposition = "inline" if safe else "attachment"
    headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return FileResponse(
        path, media_type=kind, filename=path.name, content_disposition_type=disposition, headers=headers
    )
