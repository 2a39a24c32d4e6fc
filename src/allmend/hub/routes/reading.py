"""Trees, paths, references and histories."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from fastapi import APIRouter, Request
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from allmend.hub import commits, describing, refs, trees
from allmend.hub.encoded import plain, split_revision
from allmend.hub.faults import Fault, no_entry
from allmend.hub.looking import looking
from allmend.hub.objects import Entry, Folder
from allmend.hub.routes import asking
from allmend.hub.routes.asking import Who
from allmend.hub.state import Hub

_MOST_PATHS = 20_000
_COMMITS = 50
"""Commits of a page of a history."""


def routes(hub: Hub) -> APIRouter:
    """Routes that read."""
    router = APIRouter()

    @router.get("/api/{kinds}/{owner}/{name}/tree/{rest:path}")
    def tree(kinds: str, owner: str, name: str, rest: str, request: Request, who: Who) -> Response:
        return _tree(hub, kinds, owner, name, rest, request, who)

    @router.post("/api/{kinds}/{owner}/{name}/paths-info/{rest:path}")
    async def paths_info(kinds: str, owner: str, name: str, rest: str, request: Request, who: Who) -> Response:
        paths, expand = await _paths(request)

        def look() -> Response:
            with looking() as connection:
                found = asking.opened(connection, kinds, owner, name, who)
                commit = asking.committed(connection, found, plain(rest))
                tree = commits.load(connection, commit).tree
                hits = [(path, trees.find(connection, tree, path.strip("/"))) for path in paths]
                shown = [(path.strip("/"), entry) for path, entry in hits if entry is not None and path.strip("/")]
                return JSONResponse(_entries(connection, commit, tree, shown, expand=expand))

        return await run_in_threadpool(look)

    @router.get("/api/{kinds}/{owner}/{name}/refs")
    def references(kinds: str, owner: str, name: str, request: Request, who: Who) -> Response:
        with looking() as connection:
            found = asking.opened(connection, kinds, owner, name, who)
            every = refs.listed(connection, found.id)
        shown: dict[str, Any] = {"branches": [], "converts": [], "tags": []}
        if request.query_params.get("include_prs"):
            shown["pullRequests"] = []
        for ref in every:
            group, prefix = next(
                (group, prefix)
                for prefix, group in (
                    ("refs/heads/", "branches"),
                    ("refs/tags/", "tags"),
                    ("refs/convert/", "converts"),
                    ("refs/pr/", "pullRequests"),
                )
                if ref.name.startswith(prefix)
            )
            if group in shown:
                named = ref.name if group == "pullRequests" else ref.name.removeprefix(prefix)
                shown[group].append({"name": named, "ref": ref.name, "targetCommit": ref.commit})
        return JSONResponse(shown)

    @router.get("/api/{kinds}/{owner}/{name}/commits/{rest:path}")
    def history(kinds: str, owner: str, name: str, rest: str, request: Request, who: Who) -> Response:
        asked = request.query_params
        page = int(asked.get("p", "0")) if asked.get("p", "0").isdigit() and len(asked.get("p", "0")) < 9 else 0
        formatted = "formatted" in asked.getlist("expand[]") + asked.getlist("expand")
        with looking() as connection:
            found = asking.opened(connection, kinds, owner, name, who)
            commit = asking.committed(connection, found, plain(rest))
            every = list(commits.history(connection, commit))
        shown = [
            describing.commit(each, formatted=formatted) for each in every[page * _COMMITS : (page + 1) * _COMMITS]
        ]
        headers = {"X-Total-Count": str(len(every))}
        if len(every) > (page + 1) * _COMMITS:
            pairs = [(key, value) for key, value in asked.multi_items() if key != "p"]
            url = f"{asking.base(request, hub.url)}/api/{kinds}/{owner}/{name}/commits/{quote(plain(rest), safe='')}"
            headers |= describing.next_page(f"{url}?{urlencode([*pairs, ('p', str(page + 1))])}")
        return JSONResponse(shown, headers=headers)

    @router.get("/api/{kinds}/{owner}/{name}/compare/{rest:path}")
    def compare(kinds: str, owner: str, name: str, rest: str, who: Who) -> Response:
        before, dots, after = plain(rest).partition("..")
        if not dots:
            raise Fault(400, "Write BEFORE..AFTER.")
        with looking() as connection:
            found = asking.opened(connection, kinds, owner, name, who)
            sides = [commits.load(connection, asking.committed(connection, found, each)).tree
                     for each in (before, after.lstrip("."))]  # fmt: skip
            shown = [
                {"path": path, "before": was.etag if was else None, "after": now.etag if now else None}
                for path, was, now in trees.changed(connection, *sides)
            ]
        return JSONResponse(shown)

    return router


def _tree(hub: Hub, kinds: str, owner: str, name: str, rest: str, request: Request, who: Who) -> Response:
    revision, path = split_revision(rest)
    path, asked = path.strip("/"), request.query_params
    recursive, expand = (asked.get(key, "").lower() in ("1", "true") for key in ("recursive", "expand"))
    most = hub.limits.page_expanded if expand else hub.limits.page
    if asked.get("limit", "").isdigit() and len(asked["limit"]) < 8:
        most = max(1, min(most, int(asked["limit"])))
    with looking() as connection:
        found = asking.opened(connection, kinds, owner, name, who)
        commit = asking.committed(connection, found, revision)
        tree = commits.load(connection, commit).tree
        top = trees.find(connection, tree, path)
        if not isinstance(top, Folder):
            raise no_entry(path)
        page: list[tuple[str, Entry]] = []
        for each in trees.walk(connection, top.oid, recursive=recursive, after=asked.get("cursor", "")):
            page.append(each)
            if len(page) > most:
                break
        prefix = f"{path}/" if path else ""
        more, page = len(page) > most, page[:most]
        shown = _entries(connection, commit, tree, [(prefix + each, entry) for each, entry in page], expand=expand)
    headers = {"X-Repo-Commit": commit}
    if more:
        last, entry = page[-1]
        cursor = f"{last}/" if isinstance(entry, Folder) else last
        pairs = [(key, value) for key, value in asked.multi_items() if key != "cursor"]
        # A revision that moves while pages are turned would give a mixture: the pages after the first name the commit.
        below = f"/{quote(path, safe='')}" if path else ""
        url = f"{asking.base(request, hub.url)}/api/{kinds}/{owner}/{name}/tree/{commit}{below}"
        headers |= describing.next_page(f"{url}?{urlencode([*pairs, ('cursor', cursor)])}")
    return JSONResponse(shown, headers=headers)


def _entries(
    connection: Connection, commit: str, tree: str, found: list[tuple[str, Entry]], *, expand: bool
) -> list[dict[str, Any]]:
    if not expand:
        return [describing.entry(path, entry) for path, entry in found]
    last = commits.last_touched(connection, commit, dict(found))
    report = describing.inspection(connection, tree)
    return [describing.entry(path, entry, last.get(path), describing.security(report, path)) for path, entry in found]


async def _paths(request: Request) -> tuple[list[str], bool]:
    """Paths from a form or from JSON."""
    if "json" in request.headers.get("content-type", ""):
        body = await asking.read_json(request)
        paths = body.get("paths") if isinstance(body, dict) else None
        expand = bool(body.get("expand")) if isinstance(body, dict) else False
    else:
        data = await asking.read_body(request, 32 * 2**20)
        try:
            form = parse_qs(data.decode(), keep_blank_values=True, max_num_fields=_MOST_PATHS + 10, errors="strict")
        except ValueError:
            raise Fault(400, f"The body is no form of at most {_MOST_PATHS:,} paths.") from None
        paths = form.get("paths", [])
        expand = form.get("expand", ["false"])[0].lower() in ("1", "true")
    if isinstance(paths, str):
        paths = [paths]
    if not isinstance(paths, list) or not all(isinstance(each, str) for each in paths) or len(paths) > _MOST_PATHS:
        raise Fault(400, f"`paths` is a list of at most {_MOST_PATHS:,} paths.")
    return paths, expand
