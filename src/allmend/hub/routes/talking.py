"""Pull requests and discussions over HTTP."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field
from sqlalchemy import Connection
from starlette.responses import JSONResponse, Response

from allmend import database
from allmend.hub import commits, describing, discussions, facts, refs
from allmend.hub.discussions import Discussion, Event
from allmend.hub.faults import Fault
from allmend.hub.looking import looking
from allmend.hub.noting import note
from allmend.hub.repositories import Repository
from allmend.hub.routes import asking
from allmend.hub.routes.asking import Who
from allmend.hub.routes.bodies import Body
from allmend.hub.state import Hub
from allmend.hub.visitor import Visitor

_PAGE = 50
_Text = Field(max_length=100_000)


class New(Body):
    """A discussion to be opened."""

    title: str = Field(max_length=1000)
    description: str = Field("", max_length=100_000)
    pullRequest: bool = False  # noqa: N815


class Comment(Body):
    """A comment."""

    comment: str = _Text


class Title(Body):
    """Another title."""

    title: str = Field(min_length=1, max_length=1000)


class Status(Body):
    """Another status."""

    status: Literal["open", "closed"]
    comment: str = Field("", max_length=100_000)


def routes(hub: Hub) -> APIRouter:
    """Routes of discussions."""
    router = APIRouter()
    _add_reading(router, hub)
    _add_speaking(router)
    _add_deciding(router, hub)
    return router


def _add_reading(router: APIRouter, hub: Hub) -> None:
    @router.get("/api/{kinds}/{owner}/{name}/discussions")
    def listing(kinds: str, owner: str, name: str, request: Request, who: Who) -> Response:
        asked = request.query_params
        page = int(asked["p"]) if asked.get("p", "").isdigit() and len(asked["p"]) < 8 else 0
        pull = {"pull_request": True, "discussion": False}.get(asked.get("type", ""))
        with looking() as connection:
            found = asking.opened(connection, kinds, owner, name, who)
            every = discussions.listed(
                connection, found, author=asked.get("author"), pull=pull, status=asked.get("status")
            )
        shown = [_short(each, found) for each in every[page * _PAGE : (page + 1) * _PAGE]]
        return JSONResponse({"discussions": shown, "count": len(every), "start": page * _PAGE})

    @router.get("/api/{kinds}/{owner}/{name}/discussions/{number}")
    async def details(kinds: str, owner: str, name: str, number: int, request: Request, who: Who) -> Response:
        from starlette.concurrency import run_in_threadpool

        from allmend.hub import comparing

        def look() -> tuple[dict[str, Any], discussions.Difference | None]:
            with looking() as connection:
                found = asking.opened(connection, kinds, owner, name, who)
                talk = discussions.find(connection, found, number)
                shown = _short(talk, found)
                shown["events"] = [_event(each) for each in discussions.events(connection, found, number)]
                if not talk.pull:
                    return shown, None
                what = discussions.difference(connection, found, talk)
                return shown | _pull(talk, what), what

        shown, what = await run_in_threadpool(look)
        if what is not None and request.query_params.get("diff"):
            shown["diff"] = await comparing.text_difference(hub, what.files)
            if kinds == "datasets":
                shown["rows"] = await comparing.row_difference(hub, what.files)
        return JSONResponse(shown)


def _pull(talk: Discussion, what: discussions.Difference) -> dict[str, Any]:
    changes: dict[str, Any] = {"base": talk.base}
    if talk.merged_commit:
        changes["mergeCommitId"] = talk.merged_commit
    return {
        "changes": changes,
        "filesWithConflicts": what.conflicts if talk.merged_commit is None else [],
        "files": [
            {"path": path, "change": "added" if was is None else "removed" if now is None else "changed",
             "before": was.size if was else None, "after": now.size if now else None}
            for path, (was, now) in sorted(what.files.items())[:1000]
        ],
    }  # fmt: skip


def _add_speaking(router: APIRouter) -> None:
    base = "/api/{kinds}/{owner}/{name}/discussions"

    @router.post(base)
    def create(kinds: str, owner: str, name: str, body: New, who: Who) -> Response:
        with database.writing() as connection:
            found = asking.proposable(connection, kinds, owner, name, who)
            status = "draft" if body.pullRequest else "open"
            made = discussions.open_new(
                connection, found, body.title, body.description, who, pull=body.pullRequest, status=status
            )
            note(connection, who, "pull.open" if made.pull else "discussion.open", found, number=made.number)
            return JSONResponse({"num": made.number, "pullRequest": made.pull})

    @router.post(base + "/{number}/comment")
    def comment(kinds: str, owner: str, name: str, number: int, body: Comment, who: Who) -> Response:
        with database.writing() as connection:
            found, talk = _talk(connection, kinds, owner, name, number, who)
            made = discussions.say(connection, found, talk.number, "comment", who, {"text": body.comment, "edits": []})
            return JSONResponse({"newMessage": _event(made)})

    @router.post(base + "/{number}/comment/{event}/{verb}")
    async def edit(
        kinds: str, owner: str, name: str, number: int, event: str, verb: str, request: Request, who: Who
    ) -> Response:
        from starlette.concurrency import run_in_threadpool

        text: str | None = None
        if verb == "edit":
            body = await asking.read_json(request, 2**20)
            text = body.get("content") if isinstance(body, dict) else None
            if not isinstance(text, str):
                raise Fault(400, "`content` is the comment's other text.")
        elif verb != "hide":
            raise Fault(404, "A comment can be edited or hidden.")
        return await run_in_threadpool(_edit, (kinds, owner, name), number, event, text, who)

    @router.post(base + "/{number}/title")
    def title(kinds: str, owner: str, name: str, number: int, body: Title, who: Who) -> Response:
        with database.writing() as connection:
            found, talk = _talk(connection, kinds, owner, name, number, who, own=True)
            discussions.set_columns(connection, found, number, title=body.title.strip()[:300])
            change = {"from": talk.title, "to": body.title.strip()[:300]}
            made = discussions.say(connection, found, number, "title-change", who, change)
            return JSONResponse({"newTitle": _event(made)})

    @router.post(base + "/{number}/status")
    def status(kinds: str, owner: str, name: str, number: int, body: Status, who: Who) -> Response:
        with database.writing() as connection:
            found, talk = _talk(connection, kinds, owner, name, number, who, own=True)
            if talk.status == "merged":
                raise Fault(400, "What is merged stays merged.")
            if body.comment:
                discussions.say(connection, found, number, "comment", who, {"text": body.comment, "edits": []})
            discussions.set_columns(connection, found, number, status=body.status)
            made = discussions.say(connection, found, number, "status-change", who, {"status": body.status})
            note(connection, who, f"discussion.{body.status}", found, number=number)
            return JSONResponse({"newStatus": _event(made)})


def _add_deciding(router: APIRouter, hub: Hub) -> None:
    @router.post("/api/{kinds}/{owner}/{name}/discussions/{number}/merge")
    async def merge(kinds: str, owner: str, name: str, number: int, request: Request, who: Who) -> Response:
        from starlette.concurrency import run_in_threadpool

        data = await asking.read_body(request, 2**20)
        text = ""
        if data.strip() not in (b"", b"null"):
            import json

            try:
                body = json.loads(data)
            except (ValueError, RecursionError):
                raise Fault(400, "The body is not JSON.") from None
            text = body.get("comment", "") if isinstance(body, dict) else ""

        def work() -> tuple[Repository, commits.Commit, Discussion]:
            with database.writing() as connection:
                found = asking.writable(connection, kinds, owner, name, who)
                talk = discussions.find(connection, found, number)
                made = discussions.merge(connection, found, talk, who, text if isinstance(text, str) else "")
                note(connection, who, "pull.merge", found, number=number, commit=made.id)
                return found, made, talk

        found, made, talk = await run_in_threadpool(work)
        if talk.base == f"refs/heads/{refs.MAIN}":
            await facts.refresh(hub, found.id, made.id)
        return JSONResponse({"commitOid": made.id})


def _talk(
    connection: Connection, kinds: str, owner: str, name: str, number: int, who: Visitor, *, own: bool = False
) -> tuple[Repository, Discussion]:
    found = asking.proposable(connection, kinds, owner, name, who)
    talk = discussions.find(connection, found, number)
    if own and talk.author != who.name and not who.writes(found.owner, found.name):
        raise Fault(403, "That is for its author, and for those who may write to the repository.")
    return found, talk


def _edit(place: tuple[str, str, str], number: int, identity: str, text: str | None, who: Visitor) -> Response:
    with database.writing() as connection:
        found, talk = _talk(connection, *place, number, who)
        every = discussions.events(connection, found, talk.number)
        event = next((each for each in every if _id(each) == identity and each.kind == "comment"), None)
        if event is None:
            raise Fault(404, "There is no such comment.")
        mine = event.author == who.name
        if not mine and (text is not None or not who.writes(found.owner, found.name)):
            raise Fault(403, "A comment is its author's to change.")
        body = dict(event.body)
        if text is None:
            body = {"text": "", "edits": [], "hidden": True}
        else:
            body["edits"] = [*body.get("edits", []), body["text"]][-50:]
            body["text"] = text
        return JSONResponse({"updatedComment": _event(discussions.rewrite(connection, event, body))})


def _id(event: Event) -> str:
    return f"{event.id:024x}"


def _short(talk: Discussion, found: Repository) -> dict[str, Any]:
    return {
        "num": talk.number, "title": talk.title, "author": {"name": talk.author}, "status": talk.status,
        "createdAt": describing.when(talk.created), "isPullRequest": talk.pull,
        "repo": {"name": found.full_name, "type": found.kind},
    }  # fmt: skip


def _event(event: Event) -> dict[str, Any]:
    body = event.body
    data: dict[str, Any] = body
    if event.kind == "comment":
        import html

        text = body.get("text", "")
        data = {
            "edited": bool(body.get("edits")), "hidden": bool(body.get("hidden")),
            "latest": {
                "raw": text, "html": f"<p>{html.escape(text)}</p>", "updatedAt": describing.when(event.created),
                "author": {"name": event.author},
            },
            "history": [{"raw": each} for each in body.get("edits", [])], "numEdits": len(body.get("edits", [])),
        }  # fmt: skip
    return {
        "id": _id(event), "type": event.kind, "createdAt": describing.when(event.created),
        "author": {"name": event.author}, "data": data,
    }  # fmt: skip
