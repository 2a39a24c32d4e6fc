"""Commits as clients send them, what they ask before, and branches and tags."""

from __future__ import annotations

import base64
import binascii
import json
import time
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from allmend import database
from allmend.hub import cards, commits, discussions, facts, owned, refs, starting, trees
from allmend.hub.encoded import plain
from allmend.hub.faults import Fault
from allmend.hub.looking import looking
from allmend.hub.noting import note
from allmend.hub.objects import File
from allmend.hub.receiving import Received, receive
from allmend.hub.repositories import Repository
from allmend.hub.routes import asking
from allmend.hub.routes.asking import Who
from allmend.hub.routes.bodies import Body
from allmend.hub.state import Hub
from allmend.hub.visitor import Visitor

_YOUNG = 3600.0
"""Seconds in which the store takes nothing away that was uploaded."""

_MOST_FILES = 10_000
"""Files of one question before an upload."""


class Start(Body):
    """Where a branch begins."""

    startingPoint: str | None = Field(None, max_length=300)  # noqa: N815


class Tag(Body):
    """A tag."""

    tag: str = Field(max_length=300)
    message: str | None = Field(None, max_length=100_000)


class Message(Body):
    """A commit's message."""

    message: str = Field("", max_length=10_000)


def routes(hub: Hub) -> APIRouter:
    """Routes that change repositories."""
    router = APIRouter()
    _add_commits(router, hub)
    _add_refs(router)
    return router


def _add_commits(router: APIRouter, hub: Hub) -> None:
    @router.post("/api/validate-yaml")
    async def validate_yaml(request: Request) -> Response:
        body = await asking.read_json(request)
        text = body.get("content") if isinstance(body, dict) else None
        if not isinstance(text, str):
            raise Fault(400, "`content` is the text of a README.")
        errors, warnings = cards.problems(text, str(body.get("repoType", "model")))
        shown = {"errors": [{"message": each} for each in errors], "warnings": [{"message": each} for each in warnings]}
        return JSONResponse(shown, 400 if errors else 200)

    @router.post("/api/{kinds}/{owner}/{name}/preupload/{rest:path}")
    async def preupload(kinds: str, owner: str, name: str, rest: str, request: Request, who: Who) -> Response:
        body = await asking.read_json(request)
        proposed = request.query_params.get("create_pr") in ("1", "true")
        return await _preupload(hub, (kinds, owner, name), plain(rest), body, who, proposed)

    @router.post("/api/{kinds}/{owner}/{name}/commit/{rest:path}")
    async def commit(kinds: str, owner: str, name: str, rest: str, request: Request, who: Who) -> Response:
        place, revision = (kinds, owner, name), plain(rest)
        proposed = request.query_params.get("create_pr") in ("1", "true")
        # Who may not commit is told before the body is read.
        await run_in_threadpool(_check, place, revision, who, proposed)
        received = await receive(hub, request.stream())
        await _renew(hub, place, received, who)
        made = await run_in_threadpool(_commit, place, revision, received, who, proposed)
        repository, done, number = made
        start = asking.base(request, hub.url)
        if revision == refs.MAIN and number is None:
            await facts.refresh(hub, repository.id, done)
        page = asking.page_of(repository, start)
        shown: dict[str, Any] = {
            "success": True, "commitOid": done, "commitUrl": f"{page}/commit/{done}", "hookOutput": "",
        }  # fmt: skip
        if number is not None:
            shown["pullRequestUrl"] = f"{page}/discussions/{number}"
        return JSONResponse(shown)

    @router.post("/api/{kinds}/{owner}/{name}/super-squash/{rest:path}")
    def squash(kinds: str, owner: str, name: str, rest: str, body: Message, who: Who) -> Response:
        with database.writing() as connection:
            found = asking.writable(connection, kinds, owner, name, who)
            branch = refs.branch_name(plain(rest))
            title = body.message or "Super-squash"
            made = commits.squash(connection, found.id, branch, who.signed, title)
            note(connection, who, "repo.squash", found, branch=branch, commit=made.id)
        return JSONResponse({"commitOid": made.id})


def _check(place: tuple[str, str, str], revision: str, who: Visitor, proposed: bool) -> Repository:
    with looking() as connection:
        return may_commit(connection, place, revision, who, proposed)


def may_commit(
    connection: Connection, place: tuple[str, str, str], revision: str, who: Visitor, proposed: bool
) -> Repository:
    """The repository, if the visitor may commit there: to a branch, to a pull request, or by opening one."""
    if proposed or revision in ("None", ""):
        return asking.proposable(connection, *place, who)
    if revision.startswith("refs/pr/"):
        found = asking.proposable(connection, *place, who)
        discussions.check_pusher(connection, found, revision, who)
        return found
    return asking.writable(connection, *place, who)


async def _preupload(
    hub: Hub, place: tuple[str, str, str], revision: str, body: Any, who: Visitor, proposed: bool
) -> Response:
    files = body.get("files") if isinstance(body, dict) else None
    if not isinstance(files, list) or len(files) > _MOST_FILES:
        raise Fault(400, f"`files` is a list of at most {_MOST_FILES:,}.")
    rules = body.get("gitIgnore")
    asked = [_asked(each) for each in files]

    def look() -> tuple[dict[str, File | None], dict[str, File]]:
        with looking() as connection:
            found = may_commit(connection, place, revision, who, proposed)
            try:
                commit = refs.resolve(connection, found.id, revision)
            except Fault:
                if revision != refs.MAIN:
                    raise
                return {}, {}
            tree = commits.load(connection, commit).tree
            here = {path: trees.find(connection, tree, path) for path, _, _ in asked}
            own = {name: trees.find(connection, tree, name) for name in (".gitattributes", ".gitignore")}
            known = {path: entry if isinstance(entry, File) else None for path, entry in here.items()}
            coming = sum(size for path, size, _ in asked)
            owned.check_quota(connection, found.owner, coming if coming > hub.limits.regular else 0, hub.limits.quota)
            return known, {name: file for name, file in own.items() if isinstance(file, File) and not file.sha256}

    known, own = await run_in_threadpool(look)
    wanted = [f"*.{each}" for each in starting.LARGE]
    if ".gitattributes" in own:
        wanted = starting.patterns(await _text(hub, own[".gitattributes"]))
    if not isinstance(rules, str):
        rules = await _text(hub, own[".gitignore"]) if ".gitignore" in own else ""
    ignore = rules[:100_000].splitlines()[:1000]
    shown = []
    for path, size, sample in asked:
        large = starting.is_large(path, size, sample, wanted, hub.limits.regular)
        entry = known.get(path)
        item: dict[str, Any] = {
            "path": path,
            "uploadMode": "lfs" if large else "regular",
            "shouldIgnore": starting.ignored(path, ignore) if ignore else False,
        }
        if entry is not None:
            item["oid"] = entry.etag
        shown.append(item)
    return JSONResponse({"files": shown})


async def _text(hub: Hub, file: File) -> str:
    return (await hub.store.read_small(file.key)).decode(errors="replace")


def _asked(item: Any) -> tuple[str, int, bytes]:
    if not isinstance(item, dict) or not isinstance(item.get("path"), str):
        raise Fault(400, "Each of `files` has a `path`, a `size` and a `sample`.")
    size, sample = item.get("size", 0), item.get("sample", "")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**60 or not isinstance(sample, str):
        raise Fault(400, "Each of `files` has a `path`, a `size` and a `sample`.")
    try:
        return item["path"], size, base64.b64decode(sample[:4096], validate=True)
    except (binascii.Error, ValueError):
        raise Fault(400, f"The sample of {item['path'][:200]!r} is not base64.") from None


async def _renew(hub: Hub, place: tuple[str, str, str], received: Received, who: Visitor) -> None:
    """Tell the store that files which came long ago are to be used again, before a commit leads to them."""
    wanted = [sha256 for sha256, _ in received.large.values()]

    def look() -> list[str]:
        with looking() as connection:
            found = asking.seen(connection, *place, who)
            return owned.old(connection, found.id, wanted, time.time() - _YOUNG)

    for xet in await run_in_threadpool(look) if wanted else []:
        if await hub.store.stat(xet=xet) is None:
            raise Fault(400, "A large file of this commit is no longer here; upload it again.")


def _commit(
    place: tuple[str, str, str], revision: str, received: Received, who: Visitor, proposed: bool
) -> tuple[Repository, str, int | None]:
    change = received.change
    with database.writing() as connection:
        found = may_commit(connection, place, revision, who, proposed)
        have = owned.owned(connection, found.id, (sha256 for sha256, _ in received.large.values()))
        for path, (sha256, size) in received.large.items():
            if sha256 not in have or (size is not None and size != have[sha256].size):
                raise Fault(400, f"LFS pointer pointed to a file that does not exist: {path[:200]} ({sha256})."
                                 " Upload it to this repository first.")  # fmt: skip
            change.files[path] = have[sha256]
        if not change.files and not change.folders and not proposed:
            raise Fault(400, "The commit changes nothing.")
        if proposed:
            number, made = discussions.propose(connection, found, revision, change, who)
            note(connection, who, "pull.open", found, number=number, commit=made.id)
            return found, made.id, number
        branch = refs.branch_name(revision)
        made = commits.make(connection, found.id, branch, change, who.signed)
        if branch.startswith("refs/pr/"):
            discussions.pushed(connection, found, branch, made, who)
        note(connection, who, "repo.commit", found, ref=branch, commit=made.id)
        return found, made.id, None


def _add_refs(router: APIRouter) -> None:
    @router.post("/api/{kinds}/{owner}/{name}/branch/{rest:path}")
    async def create_branch(kinds: str, owner: str, name: str, rest: str, request: Request, who: Who) -> Response:
        data = await asking.read_body(request, 65_536)
        try:
            body = Start.model_validate(json.loads(data or b"{}"))
        except (ValueError, RecursionError):
            raise Fault(400, "The body is not JSON, or `startingPoint` no text.") from None

        def make() -> Response:
            with database.writing() as connection:
                found = asking.writable(connection, kinds, owner, name, who)
                start = asking.committed(connection, found, body.startingPoint or refs.MAIN)
                refs.create_branch(connection, found.id, plain(rest), start)
                note(connection, who, "branch.create", found, branch=plain(rest), commit=start)
            return JSONResponse({})

        return await run_in_threadpool(make)

    @router.delete("/api/{kinds}/{owner}/{name}/branch/{rest:path}")
    def delete_branch(kinds: str, owner: str, name: str, rest: str, who: Who) -> Response:
        with database.writing() as connection:
            found = asking.writable(connection, kinds, owner, name, who)
            refs.delete_branch(connection, found.id, plain(rest))
            note(connection, who, "branch.delete", found, branch=plain(rest))
        return JSONResponse({})

    @router.post("/api/{kinds}/{owner}/{name}/tag/{rest:path}")
    def create_tag(kinds: str, owner: str, name: str, rest: str, body: Tag, who: Who) -> Response:
        with database.writing() as connection:
            found = asking.writable(connection, kinds, owner, name, who)
            commit = asking.committed(connection, found, plain(rest))
            refs.create_tag(connection, found.id, body.tag, commit, body.message)
            note(connection, who, "tag.create", found, tag=body.tag, commit=commit)
        return JSONResponse({})

    @router.delete("/api/{kinds}/{owner}/{name}/tag/{rest:path}")
    def delete_tag(kinds: str, owner: str, name: str, rest: str, who: Who) -> Response:
        with database.writing() as connection:
            found = asking.writable(connection, kinds, owner, name, who)
            refs.delete_tag(connection, found.id, plain(rest))
            note(connection, who, "tag.delete", found, tag=plain(rest))
        return JSONResponse({})
