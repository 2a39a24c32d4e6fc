"""Repositories, trees and commits in the words of the Hub's API."""

from __future__ import annotations

import html
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select

from allmend.database.hub_repositories import hub_inspections
from allmend.hub import cards, commits, objects, repositories, trees
from allmend.hub.commits import Commit
from allmend.hub.objects import Entry, File, Folder
from allmend.hub.repositories import Repository


def when(seconds: float) -> str:
    """A time as the API writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{int(seconds * 1000) % 1000:03d}Z"


def short(repository: Repository, tags: list[str], sha: str | None, *, full: bool = False) -> dict[str, Any]:
    """A repository in a listing."""
    card, facts = repository.card, repository.facts
    found: dict[str, Any] = {
        "_id": f"{repository.id:024x}",
        "id": repository.full_name,
        "author": repository.owner,
        "sha": sha,
        "createdAt": when(repository.created),
        "lastModified": when(repository.updated),
        "private": repository.private,
        "gated": repository.gated or False,
        "disabled": False,
        "downloads": repository.downloads,
        "likes": 0,
        "trendingScore": 0,
        "tags": tags,
    }
    if repository.kind == "model":
        found |= {"modelId": repository.full_name}
        library = card.get("library_name") or facts.get("library_name")
        pipeline = card.get("pipeline_tag") or facts.get("pipeline_tag")
        found |= {key: value for key, value in (("library_name", library), ("pipeline_tag", pipeline)) if value}
    if repository.kind == "space":
        found["sdk"] = repository.sdk
    if full:
        found["cardData"] = card or None
    return found


def tags_of(card: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    """What a repository is listed under."""
    found = cards.tags(card)
    for name in ("library_name", "pipeline_tag", "model_type"):
        value = facts.get(name)
        if isinstance(value, str) and value not in found:
            found.append(value)
    found += [tag for tag in facts.get("tags", []) if tag not in found]
    return found


def full(connection: Connection, repository: Repository, commit: str | None, *, blobs: bool = False) -> dict[str, Any]:
    """A repository with its files at a commit; None is a repository without commits."""
    tags = repositories.tags_of(connection, [repository.id])[repository.id]
    found = short(repository, tags, commit, full=True)
    tree = commits.load(connection, commit).tree if commit else objects.EMPTY_TREE
    whole = trees.load(connection, tree)
    found["siblings"] = [
        sibling(path, entry, blobs)
        for path, entry in trees.walk(connection, tree, recursive=True)
        if isinstance(entry, File)
    ]
    found["usedStorage"] = whole.bytes
    found["spaces"] = []
    facts = repository.facts
    if repository.kind == "model":
        found["config"] = facts.get("config")
        found |= {key: facts[key] for key in ("safetensors", "gguf", "transformersInfo") if facts.get(key)}
        found["baseModels"] = None
    if repository.kind == "space":
        found |= {"subdomain": repository.full_name.replace("/", "-").lower(), "host": None, "models": [],
                  "datasets": []}  # fmt: skip
    if repository.parent_id is not None:
        parent = repositories.by_id(connection, repository.parent_id)
        hidden = parent is None or parent.private
        found["forkedFrom"] = {
            "id": None if hidden or parent is None else parent.full_name, "commit": repository.parent_commit,
        }  # fmt: skip
    if repository.mirror:
        found["mirrorOf"] = repository.mirror
    found["trust"] = inspection(connection, tree)
    return found


def inspection(connection: Connection, tree: str) -> dict[str, Any]:
    """What `plan` said of these files; `state` is `waiting` where it was not asked yet."""
    import json

    body = connection.execute(select(hub_inspections.c.body).where(hub_inspections.c.tree_id == tree)).scalar()
    return {"state": "waiting"} if body is None else dict(json.loads(body))


def sibling(path: str, entry: File, blobs: bool) -> dict[str, Any]:
    """A file of a repository's own description."""
    if not blobs:
        return {"rfilename": path}
    found: dict[str, Any] = {"rfilename": path, "size": entry.size, "blobId": entry.oid}
    if entry.sha256:
        pointer = len(objects.pointer(entry.sha256, entry.size))
        found["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": pointer}
    return found


def entry(
    path: str, found: Entry, last: Commit | None = None, security: dict[str, Any] | None = None
) -> dict[str, Any]:
    """An entry of a tree."""
    if isinstance(found, Folder):
        shown: dict[str, Any] = {"type": "directory", "oid": found.oid, "size": 0, "path": path}
    else:
        shown = {"type": "file", "oid": found.oid, "size": found.size, "path": path}
        if found.sha256:
            pointer = len(objects.pointer(found.sha256, found.size))
            shown["lfs"] = {"oid": found.sha256, "size": found.size, "pointerSize": pointer}
            if found.key:
                shown["xetHash"] = found.key
        if security is not None:
            shown["securityFileStatus"] = security
    if last is not None:
        shown["lastCommit"] = {"id": last.id, "title": last.title, "date": when(last.created)}
    return shown


def security(report: dict[str, Any], path: str) -> dict[str, Any]:
    """What was found about one file, in the words of the API: `unscanned` where nothing looked at it."""
    status, scan = "unscanned", None
    if report.get("state") == "done":
        seen = report.get("files", {}).get(path)
        if seen is not None:
            status = {"danger": "unsafe", "warning": "suspicious"}.get(seen.get("severity"), "safe")
            scan = {"highestSafetyLevel": seen.get("severity") or "innocuous", "imports": seen.get("imports", []),
                    "message": "; ".join(seen.get("titles", []))}  # fmt: skip
    return {"status": status, "avScan": None, "pickleImportScan": scan}


def commit(found: Commit, *, formatted: bool = False) -> dict[str, Any]:
    """A commit of a history."""
    shown: dict[str, Any] = {
        "id": found.id,
        "title": found.title,
        "message": found.message,
        "authors": [{"user": found.author, "avatar": ""}],
        "date": when(found.created),
    }
    if formatted:
        title, message = html.escape(found.title), html.escape(found.message).replace("\n", "<br>")
        shown["formatted"] = {"title": title, "message": message}
    return shown


def next_page(url: str) -> dict[str, str]:
    """The header that leads to the next page."""
    return {"Link": f'<{url}>; rel="next"'}


def files_of(connection: Connection, tree: str) -> Iterable[tuple[str, File]]:
    """Every file of a tree."""
    for path, found in trees.walk(connection, tree, recursive=True):
        if isinstance(found, File):
            yield path, found
