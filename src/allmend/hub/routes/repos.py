"""Making, deleting, moving, forking and listing repositories, and their settings."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from pydantic import Field
from sqlalchemy import Connection
from starlette.responses import JSONResponse, Response

from allmend import database
from allmend.hub import commits, describing, refs, repositories
from allmend.hub.faults import Fault, in_header, no_revision
from allmend.hub.looking import looking
from allmend.hub.names import PREFIXES
from allmend.hub.repositories import Repository
from allmend.hub.routes import asking
from allmend.hub.routes.asking import Who, kind_named, kind_of
from allmend.hub.routes.bodies import Body
from allmend.hub.starting import first_files
from allmend.hub.state import Hub
from allmend.hub.visitor import Visitor

_MOST_LISTED = 1000
_Name = Field(max_length=200)


class Create(Body):
    """A new repository."""

    name: str = _Name
    organization: str | None = Field(None, max_length=200)
    type: str | None = Field(None, max_length=20)
    private: bool | None = None
    visibility: Literal["public", "private", "protected"] | None = None
    sdk: str | None = Field(None, max_length=32)


class Delete(Body):
    """A repository to be deleted."""

    name: str = _Name
    organization: str | None = Field(None, max_length=200)
    type: str | None = Field(None, max_length=20)


class Move(Body):
    """A repository's other name."""

    fromRepo: str = _Name  # noqa: N815
    toRepo: str = _Name  # noqa: N815
    type: str | None = Field(None, max_length=20)


class Change(Body):
    """Settings of a repository."""

    private: bool | None = None
    visibility: Literal["public", "private", "protected"] | None = None
    gated: Literal["auto", "manual", False] | None = None


class Duplicate(Body):
    """A fork."""

    repository: str = _Name
    private: bool | None = None
    visibility: Literal["public", "private", "protected"] | None = None


def routes(hub: Hub) -> APIRouter:
    """Routes over repositories."""
    router = APIRouter()
    _add_changes(router, hub)
    _add_reading(router, hub)
    return router


def _add_changes(router: APIRouter, hub: Hub) -> None:
    @router.post("/api/repos/create")
    async def create(request: Request, body: Create, who: Who) -> Response:
        from starlette.concurrency import run_in_threadpool

        kind = kind_named(body.type)
        owner, name = _owner_and_name(body.organization, body.name, who)
        private = _private(body.private, body.visibility)
        files = await first_files(hub.store, kind)
        start = asking.base(request, hub.url)

        def make() -> Response:
            url = f"{start}/{PREFIXES[kind]}{owner}/{name}"
            try:
                with database.writing() as connection:
                    made = repositories.create(connection, who, kind, owner, name, private=bool(private), sdk=body.sdk)
                    change = commits.Change("initial commit", files=files)
                    commits.make(connection, made.id, "refs/heads/main", change, who.signed)
                    _note(connection, who, "repo.create", made, private=bool(private))
            except Fault as fault:
                if fault.status == 409:
                    return JSONResponse(
                        {"error": fault.words, "url": url, "name": f"{owner}/{name}"}, 409,
                        headers={"X-Error-Message": in_header(fault.words)},
                    )  # fmt: skip
                raise
            return JSONResponse({"url": asking.page_of(made, start), "name": made.full_name, "id": f"{made.id:024x}"})

        return await run_in_threadpool(make)

    @router.delete("/api/repos/delete")
    def delete(body: Delete, who: Who) -> Response:
        owner, name = _owner_and_name(body.organization, body.name, who)
        with database.writing() as connection:
            found = asking.administered(connection, f"{kind_named(body.type)}s", owner, name, who)
            repositories.remove(connection, found)
            _note(connection, who, "repo.delete", found)
        return JSONResponse({})

    @router.post("/api/repos/move")
    def move(body: Move, who: Who) -> Response:
        kind = kind_named(body.type)
        with database.writing() as connection:
            found = asking.administered(connection, f"{kind}s", *asking.split_name(body.fromRepo), who)
            owner, name = asking.split_name(body.toRepo)
            repositories.move(connection, who, found, owner, name)
            _note(connection, who, "repo.move", found, to=body.toRepo)
        return JSONResponse({})

    @router.put("/api/{kinds}/{owner}/{name}/settings")
    def settings(kinds: str, owner: str, name: str, body: Change, who: Who) -> Response:
        values: dict[str, Any] = {}
        private = _private(body.private, body.visibility)
        if private is not None:
            values["private"] = private
        if body.gated is not None:
            values["gated"] = body.gated or ""
        with database.writing() as connection:
            found = asking.administered(connection, kinds, owner, name, who)
            if values:
                repositories.change(connection, found, **values)
                _note(connection, who, "repo.settings", found, **values)
        return JSONResponse({"private": values.get("private", found.private)})

    @router.post("/api/{kinds}/{owner}/{name}/duplicate")
    def duplicate(kinds: str, owner: str, name: str, body: Duplicate, request: Request, who: Who) -> Response:
        start = asking.base(request, hub.url)
        target = _owner_and_name(None, body.repository, who)
        with database.writing() as connection:
            source = asking.opened(connection, kinds, owner, name, who)
            url = f"{start}/{PREFIXES[source.kind]}{target[0]}/{target[1]}"
            # What is not public stays so unless its owner says otherwise.
            private = _private(body.private, body.visibility)
            hidden = bool(private) if private is not None else bool(source.private or source.gated)
            try:
                made = _fork(connection, who, source, target, hidden)
            except Fault as fault:
                if fault.status != 409:
                    raise
                return JSONResponse({"error": fault.words, "url": url}, 409)
            _note(connection, who, "repo.fork", made, source=source.full_name)
        return JSONResponse({"url": url})


def _fork(
    connection: Connection, who: Visitor, source: Repository, target: tuple[str, str], private: bool
) -> Repository:
    """The same commits under another name; contents are not copied."""
    head = refs.head(connection, source.id, "refs/heads/main")
    made = repositories.create(
        connection, who, source.kind, *target, private=private, sdk=source.sdk, parent=source, parent_commit=head
    )
    if head is not None:
        repositories.fork_commits(connection, source, made, [each.id for each in commits.history(connection, head)])
        refs.set_to(connection, made.id, "refs/heads/main", head)
        commits.own_files(connection, made.id, head)
    repositories.change(connection, made, card=_json(source.card), facts=_json(source.facts))
    repositories.set_tags(connection, made, repositories.tags_of(connection, [source.id])[source.id])
    return made


def _json(value: object) -> str:
    import json

    return json.dumps(value)


def _add_reading(router: APIRouter, hub: Hub) -> None:
    @router.get("/api/{kinds}")
    def listing(kinds: str, request: Request, who: Who) -> Response:
        kind, asked = kind_of(kinds), request.query_params
        most = 100 if asked.get("full") else _MOST_LISTED
        limit = max(1, min(_number(asked.get("limit"), 100), most))
        offset = _number(asked.get("cursor"), 0)
        gated = asked.get("gated")
        filters = [*asked.getlist("filter"), *asked.getlist("pipeline_tag"), *asked.getlist("library")]
        with looking() as connection:
            found = repositories.listing(
                connection, who, kind, search=asked.get("search"), author=asked.get("author"),
                filters=[each for part in filters for each in part.split(",") if each][:20],
                gated=None if gated is None else gated.lower() == "true", sort=asked.get("sort"),
                ascending=asked.get("direction") == "1", limit=limit + 1, offset=offset,
            )  # fmt: skip
            tags = repositories.tags_of(connection, [each.id for each in found])
            whole = bool(asked.get("full") or asked.get("cardData"))
            shown = []
            for each in found[:limit]:
                sha = refs.head(connection, each.id, "refs/heads/main")
                if asked.get("full") and sha is not None and not each.gated:
                    item = describing.full(connection, each, sha)
                else:
                    item = describing.short(each, tags[each.id], sha, full=whole)
                shown.append(item)
        headers = {}
        if len(found) > limit:
            pairs = [(key, value) for key, value in asked.multi_items() if key != "cursor"]
            query = urlencode([*pairs, ("cursor", str(offset + limit))])
            headers = describing.next_page(f"{asking.base(request, hub.url)}/api/{kinds}?{query}")
        return JSONResponse(shown, headers=headers)

    @router.get("/api/{kinds}/{owner}/{name}")
    def info(kinds: str, owner: str, name: str, request: Request, who: Who) -> Response:
        return _info(hub, kinds, owner, name, None, request, who)

    @router.get("/api/{kinds}/{owner}/{name}/revision/{rest:path}")
    def info_at(kinds: str, owner: str, name: str, rest: str, request: Request, who: Who) -> Response:
        revision = asking_revision(rest)
        return _info(hub, kinds, owner, name, revision, request, who)

    @router.get("/api/{kinds}/{owner}/{name}/auth-check")
    def auth_check(kinds: str, owner: str, name: str, request: Request, who: Who) -> Response:
        with looking() as connection:
            if request.query_params.get("write"):
                asking.writable(connection, kinds, owner, name, who)
            else:
                asking.opened(connection, kinds, owner, name, who)
        return JSONResponse({})


def asking_revision(rest: str) -> str:
    """A revision that is the rest of an address."""
    from allmend.hub.encoded import plain

    return plain(rest)


def _info(
    hub: Hub, kinds: str, owner: str, name: str, revision: str | None, request: Request, who: Visitor
) -> Response:
    if hub.mirror is not None:
        hub.mirror.refresh(kind_of(kinds), owner, name, revision)
    asked = request.query_params
    with looking() as connection:
        found = asking.seen(connection, kinds, owner, name, who)
        try:
            commit: str | None = refs.resolve(connection, found.id, revision or refs.MAIN)
        except Fault:
            if revision is not None:
                raise no_revision(revision) from None
            commit = None
        body = describing.full(connection, found, commit, blobs=asked.get("blobs", "").lower() in ("1", "true"))
    wanted = asked.getlist("expand") or asked.getlist("expand[]")
    if wanted:
        kept = {"_id", "id", "modelId", *(part for each in wanted for part in each.split(","))}
        body = {key: value for key, value in body.items() if key in kept}
    return JSONResponse(body, headers={"X-Repo-Commit": commit} if commit else {})


def _owner_and_name(organisation: str | None, name: str, who: Visitor) -> tuple[str, str]:
    if who.name is None:
        raise Fault(401, "A token is needed.", headers={"www-authenticate": "Bearer"})
    if organisation is None and "/" in name:
        organisation, _, name = name.partition("/")
    return _spelled(organisation or who.name, who), name


def _spelled(owner: str, who: Visitor) -> str:
    """The owner as the account is written: names are told apart by more than their case."""
    known = [who.name or "", *(who.principal.organisations if who.principal else ())]
    return next((each for each in known if each.lower() == owner.lower()), owner)


def _private(private: bool | None, visibility: str | None) -> bool | None:
    return visibility != "public" if visibility is not None else private


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else default


def _note(connection: Connection, who: Visitor, action: str, found: Repository, **details: Any) -> None:
    from allmend.hub.noting import note

    note(connection, who, action, found, **details)
