"""Files: their headers, whole, and in ranges. Every byte comes out of the store, which checks it on the way."""

from __future__ import annotations

import mimetypes
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from allmend.hub import commits, trees
from allmend.hub.contents import Bodies, contents
from allmend.hub.encoded import split_revision
from allmend.hub.faults import Fault, no_entry
from allmend.hub.looking import looking
from allmend.hub.objects import File
from allmend.hub.repositories import Repository
from allmend.hub.routes import asking
from allmend.hub.routes.asking import Who
from allmend.hub.state import Hub
from allmend.hub.visitor import Visitor

if TYPE_CHECKING:
    from allmend.hub.mirror import Mirror

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_SHOWN = ("text/", "image/", "audio/", "video/", "application/json", "application/pdf")
_SAFE = {
    # What people uploaded is shown on the hub's own address; a browser runs nothing of it.
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class _Hit:
    repository: Repository
    commit: str
    path: str
    file: File


def routes(hub: Hub) -> APIRouter:
    """Routes to files."""
    router = APIRouter()

    async def answer(kinds: str, owner: str, name: str, rest: str, request: Request, who: Visitor) -> Response:
        if hub.mirror is not None:
            await run_in_threadpool(hub.mirror.refresh_file, kinds, owner, name, *split_revision(rest))
        hit = await run_in_threadpool(_find, kinds, owner, name, rest, who)
        if hub.mirror is not None and not hit.file.key:
            hit = await _fetched(hub, hub.mirror, hit, head=request.method == "HEAD")
        return await _answer(hub, hit, request)

    for prefix, kinds in (("datasets", "datasets"), ("spaces", "spaces"), ("", "models")):
        _add(router, f"/{prefix}" if prefix else "", kinds, answer)
    return router


def _add(router: APIRouter, prefix: str, kinds: str, answer: object) -> None:
    async def resolve(owner: str, name: str, rest: str, request: Request, who: Who) -> Response:
        result: Response = await answer(kinds, owner, name, rest, request, who)  # type: ignore[operator]
        return result

    for verb in ("resolve", "raw"):
        path = f"{prefix}/{{owner}}/{{name}}/{verb}/{{rest:path}}"
        router.add_api_route(path, resolve, methods=["GET", "HEAD"], response_model=None, name=f"{kinds}-{verb}")


def _find(kinds: str, owner: str, name: str, rest: str, who: Visitor) -> _Hit:
    revision, path = split_revision(rest)
    with looking() as connection:
        repository = asking.opened(connection, kinds, owner, name, who)
        commit = asking.committed(connection, repository, revision)
        found = trees.find(connection, commits.load(connection, commit).tree, path)
    if not isinstance(found, File):
        fault = no_entry(path)
        # With the commit, clients can remember that the file is not there.
        fault.headers["X-Repo-Commit"] = commit
        raise fault
    return _Hit(repository, commit, path, found)


async def _fetched(hub: Hub, mirror: Mirror, hit: _Hit, *, head: bool) -> _Hit:
    """A mirrored file that may not be here yet; for its headers alone it is not fetched."""
    if head:
        return hit
    return replace(hit, file=await mirror.here(hit.repository, hit.commit, hit.path, hit.file))


async def _answer(hub: Hub, hit: _Hit, request: Request) -> Response:
    file, headers = hit.file, _headers(hub, hit, request)
    if request.headers.get("if-none-match") in (headers["ETag"], f"W/{headers['ETag']}"):
        return Response(status_code=304, headers=headers)
    span = _span(request.headers.get("range"), file.size)
    if span is None and request.headers.get("range", "").startswith("bytes=") and _beyond(request, file.size):
        raise Fault(416, "The file is not that long.", headers={"Content-Range": f"bytes */{file.size}"})
    start, end = span or (0, file.size)
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
    headers["Content-Length"] = str(end - start)
    status = 206 if span is not None else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    if not file.key:
        raise Fault(502, "This file of another hub has not been fetched, and no other hub is named now.")
    stream = contents(hub.store, file, start, end)
    # What cannot be read is told before an answer begins.
    first = await anext(stream, b"")
    return StreamingResponse(_from(first, stream), status, headers=headers)


async def _from(first: bytes | memoryview, rest: Bodies) -> Bodies:
    yield first
    async for chunk in rest:
        yield chunk


def _headers(hub: Hub, hit: _Hit, request: Request) -> dict[str, str]:
    file, repository = hit.file, hit.repository
    kind = mimetypes.guess_type(hit.path)[0] or "application/octet-stream"
    if kind in ("text/html", "image/svg+xml") or not kind.startswith(_SHOWN):
        kind = "text/plain" if kind.startswith(("text/", "image/svg")) else "application/octet-stream"
    name = hit.path.rsplit("/", 1)[-1]
    plain = re.sub(r'[^\x20-\x7e]|["\\]', "_", name)
    headers = {
        "ETag": f'"{file.etag}"',
        "X-Repo-Commit": hit.commit,
        "Accept-Ranges": "bytes",
        "Content-Type": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind,
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(name)}; filename=\"{plain}\"",
        "Vary": "Authorization",
        "Cache-Control": "private, no-cache",
        "Access-Control-Expose-Headers": "X-Repo-Commit,X-Linked-Size,X-Linked-ETag,X-Xet-Hash,ETag,Link",
        **_SAFE,
    }
    if file.sha256 is not None and file.key:
        start = asking.base(request, hub.url)
        route = f"{start}/api/{repository.kind}s/{repository.full_name}/xet-read-token/{hit.commit}"
        headers |= {
            "X-Linked-Size": str(file.size),
            "X-Linked-ETag": f'"{file.sha256}"',
            "X-Xet-Hash": file.key,
            "X-Xet-Refresh-Route": route,
            "Link": f'<{route}>; rel="xet-auth"',
        }
    return headers


def _span(header: str | None, size: int) -> tuple[int, int] | None:
    """The first and the one after the last byte that were asked for; None for the whole file."""
    match = _RANGE.fullmatch((header or "").strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        count = min(int(match[2]), size)
        return (size - count, size) if count else None
    start = int(match[1])
    end = min(int(match[2]) + 1, size) if match[2] else size
    return (start, end) if start < end else None


def _beyond(request: Request, size: int) -> bool:
    match = _RANGE.fullmatch(request.headers["range"].strip())
    return match is not None and ((bool(match[1]) and int(match[1]) >= size) or match[0] == "bytes=-0")
