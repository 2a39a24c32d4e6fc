"""git's large files over HTTP: in one piece, in parts, and back.

The protocol: https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md; in parts as stock Hub clients do it, with
`chunk_size` and an address for each part. Addresses are signed for one file of one repository: clients send no token
to them. A file is in the repository when every byte has arrived and its SHA-256 is the one that was named.
"""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse

from allmend import database
from allmend.errors import AllmendError
from allmend.hub import owned
from allmend.hub.contents import contents
from allmend.hub.faults import Fault, no_entry, of_error
from allmend.hub.looking import looking
from allmend.hub.objects import File
from allmend.hub.repositories import Repository
from allmend.hub.routes import asking
from allmend.hub.routes.asking import Who
from allmend.hub.routes.committing import may_commit
from allmend.hub.state import Hub
from allmend.hub.visitor import Visitor

_TYPE = "application/vnd.git-lfs+json"
_MOST_OBJECTS = 2000
_MOST_PARTS = 10_000
_PIECE = 1 << 20


def routes(hub: Hub) -> APIRouter:
    """Routes of the large file protocol."""
    router = APIRouter()

    async def batch(kinds: str, owner: str, name: str, request: Request, who: Visitor) -> Response:
        body = await asking.read_json(request, 8 * 2**20)
        asked = _asked(body)
        start = asking.base(request, hub.url)
        return await run_in_threadpool(_batch, hub, (kinds, owner, name), body, asked, who, start)

    for prefix, kinds in (("/datasets", "datasets"), ("/spaces", "spaces"), ("", "models")):
        _add_batch(router, prefix, kinds, batch)
    _add_transfers(router, hub)
    _add_listing(router, hub)
    return router


def _add_batch(router: APIRouter, prefix: str, kinds: str, batch: Any) -> None:
    async def ask(owner: str, name: str, request: Request, who: Who) -> Response:
        answer: Response = await batch(kinds, owner, name, request, who)
        return answer

    path = f"{prefix}/{{owner}}/{{name}}.git/info/lfs/objects/batch"
    router.add_api_route(path, ask, methods=["POST"], response_model=None, name=f"lfs-{kinds}")


def _asked(body: Any) -> list[tuple[str, int]]:
    objects = body.get("objects") if isinstance(body, dict) else None
    if not isinstance(objects, list) or len(objects) > _MOST_OBJECTS:
        raise Fault(400, f"`objects` is a list of at most {_MOST_OBJECTS:,}.")
    if body.get("hash_algo", "sha256") != "sha256":
        raise Fault(409, "This hub names large files by SHA-256.")
    asked = []
    for each in objects:
        oid, size = (each.get("oid"), each.get("size")) if isinstance(each, dict) else (None, None)
        right = isinstance(oid, str) and len(oid) == 64 and set(oid) <= set("0123456789abcdef")
        if (
            not right
            or not isinstance(oid, str)
            or not isinstance(size, int)
            or isinstance(size, bool)
            or not 0 <= size < 2**50
        ):
            raise Fault(422, "Each object has an `oid`, a SHA-256, and a `size`.")
        asked.append((oid, size))
    return asked


def _batch(
    hub: Hub, place: tuple[str, str, str], body: Any, asked: list[tuple[str, int]], who: Visitor, start: str
) -> Response:
    up = body.get("operation") == "upload"
    ref = body.get("ref")
    revision = ref.get("name") if isinstance(ref, dict) else None
    with looking() as connection:
        if up:
            found = may_commit(connection, place, revision if isinstance(revision, str) else "", who, False)
        else:
            found = asking.opened(connection, *place, who)
        have = owned.owned(connection, found.id, (oid for oid, _ in asked))
        if up:
            coming = sum(size for oid, size in asked if oid not in have)
            owned.check_quota(connection, found.owner, coming, hub.limits.quota)
    transfers = body.get("transfers")
    parted = isinstance(transfers, list) and "multipart" in transfers
    make = _upload if up else _download
    shown = [make(hub, found, start, oid, size, have.get(oid), parted) for oid, size in asked]
    return JSONResponse({"transfer": "basic", "objects": shown, "hash_algo": "sha256"}, media_type=_TYPE)


def _upload(
    hub: Hub, found: Repository, start: str, oid: str, size: int, have: File | None, parted: bool
) -> dict[str, Any]:
    item: dict[str, Any] = {"oid": oid, "size": size, "authenticated": True}
    if have is not None:
        return item
    claims: dict[str, Any] = {"repository": found.id, "oid": oid, "size": size}

    def address(what: str, **more: Any) -> str:
        return f"{start}/lfs/{what}/{oid}?signed={hub.sign(what=what, **claims, **more)}"

    verify = {"href": address("verify")}
    part = hub.limits.part
    if not parted or size <= part:
        item["actions"] = {"upload": {"href": address("put")}, "verify": verify}
        return item
    count = math.ceil(size / part)
    if count > _MOST_PARTS:
        part = math.ceil(size / _MOST_PARTS)
        count = math.ceil(size / part)
    header = {"chunk_size": str(part)}
    header |= {f"{number:05d}": address("part", part=number) for number in range(1, count + 1)}
    item["actions"] = {"upload": {"href": address("complete", parts=count), "header": header}, "verify": verify}
    return item


def _download(
    hub: Hub, found: Repository, start: str, oid: str, size: int, have: File | None, parted: bool
) -> dict[str, Any]:
    if have is None:
        return {"oid": oid, "size": size, "error": {"code": 404, "message": "The repository has no such file."}}
    claims: dict[str, Any] = {"repository": found.id, "oid": oid, "size": have.size}
    signed = hub.sign(what="get", **claims)
    return {"oid": oid, "size": have.size, "authenticated": True,
            "actions": {"download": {"href": f"{start}/lfs/get/{oid}?signed={signed}"}}}  # fmt: skip


def _add_transfers(router: APIRouter, hub: Hub) -> None:
    @router.put("/lfs/put/{oid}")
    async def put(oid: str, signed: str, request: Request) -> Response:
        claims = hub.signed(signed, what="put", oid=oid)
        await _store(hub, claims, request.stream())
        return Response()

    @router.put("/lfs/part/{oid}")
    async def put_part(oid: str, signed: str, request: Request) -> Response:
        claims = hub.signed(signed, what="part", oid=oid)
        etag = await _keep_part(hub, claims, request.stream())
        return Response(headers={"ETag": f'"{etag}"'})

    @router.post("/lfs/complete/{oid}")
    async def complete(oid: str, signed: str, request: Request) -> Response:
        claims = hub.signed(signed, what="complete", oid=oid)
        body = await asking.read_json(request, 4 * 2**20)
        parts = body.get("parts") if isinstance(body, dict) else None
        if not isinstance(parts, list) or len(parts) != claims["parts"]:
            raise Fault(400, f"The upload has {claims['parts']} parts.")
        await _join(hub, claims)
        return JSONResponse({})

    @router.post("/lfs/verify/{oid}")
    def verify(oid: str, signed: str) -> Response:
        claims = hub.signed(signed, what="verify", oid=oid)
        with looking() as connection:
            have = owned.owned(connection, claims["repository"], [oid]).get(oid)
        if have is None or have.size != claims["size"]:
            raise Fault(404, "The file has not arrived.")
        return JSONResponse({}, media_type=_TYPE)

    @router.get("/lfs/get/{oid}")
    async def get(oid: str, signed: str, request: Request) -> Response:
        claims = hub.signed(signed, what="get", oid=oid)

        def look() -> File | None:
            with looking() as connection:
                return owned.owned(connection, claims["repository"], [oid]).get(oid)

        have = await run_in_threadpool(look)
        if have is None:
            raise no_entry(oid)
        headers = {"Content-Length": str(have.size), "ETag": f'"{oid}"'}
        return StreamingResponse(contents(hub.store, have), headers=headers, media_type="application/octet-stream")


async def _store(hub: Hub, claims: dict[str, Any], body: AsyncIterator[bytes]) -> None:
    """Put a file into the store and write down whose it is."""
    try:
        stored = await hub.store.put(_counted(body, claims["size"]), sha256=claims["oid"], size=claims["size"])
    except AllmendError as error:
        raise of_error(error) from None

    def write() -> None:
        with database.writing() as connection:
            owned.own(connection, claims["repository"], claims["oid"], stored.xet, stored.size)

    await run_in_threadpool(write)


async def _counted(body: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    taken = 0
    async for chunk in body:
        taken += len(chunk)
        if taken > size:
            raise Fault(400, f"More than the {size:,} bytes that were announced came.")
        yield chunk


def _folder(hub: Hub, claims: dict[str, Any]) -> Path:
    return hub.uploads / f"{int(claims['repository'])}-{claims['oid']}"


async def _keep_part(hub: Hub, claims: dict[str, Any], body: AsyncIterator[bytes]) -> str:
    import hashlib
    import secrets

    folder = _folder(hub, claims)
    await run_in_threadpool(lambda: folder.mkdir(parents=True, exist_ok=True))
    path = folder / f"{int(claims['part']):05d}"
    hidden = folder / f".{path.name}.{secrets.token_hex(4)}"
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with await run_in_threadpool(lambda: hidden.open("wb")) as file:
            async for chunk in _counted(body, claims["size"]):
                digest.update(chunk)
                await run_in_threadpool(file.write, chunk)
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)
    return digest.hexdigest()


async def _join(hub: Hub, claims: dict[str, Any]) -> None:
    folder = _folder(hub, claims)
    names = [folder / f"{number:05d}" for number in range(1, claims["parts"] + 1)]
    if not all(path.is_file() for path in names):
        raise Fault(400, "Not all parts have arrived.")

    async def body() -> AsyncIterator[bytes]:
        for path in names:
            with path.open("rb") as file:
                while chunk := await asyncio.to_thread(file.read, _PIECE):
                    yield chunk

    await _store(hub, claims, body())
    await asyncio.to_thread(shutil.rmtree, folder, True)


def _add_listing(router: APIRouter, hub: Hub) -> None:
    @router.get("/api/{kinds}/{owner}/{name}/lfs-files")
    def lfs_files(kinds: str, owner: str, name: str, who: Who) -> Response:
        from allmend.hub import commits, describing, refs

        with looking() as connection:
            found = asking.writable(connection, kinds, owner, name, who)
            shown: dict[str, dict[str, Any]] = {}
            for ref in refs.listed(connection, found.id):
                for commit in commits.history(connection, ref.commit):
                    for path, file in describing.files_of(connection, commit.tree):
                        if file.sha256:
                            shown[file.sha256] = {
                                "fileOid": file.sha256, "filename": path, "oid": file.sha256, "size": file.size,
                                "pushedAt": describing.when(commit.created), "ref": ref.name,
                            }  # fmt: skip
        return JSONResponse(list(shown.values()))

    @router.post("/api/{kinds}/{owner}/{name}/lfs-files/duplicate")
    async def duplicate(kinds: str, owner: str, name: str, request: Request, who: Who) -> Response:
        body = await asking.read_json(request)
        target = body.get("target") if isinstance(body, dict) else None
        files = body.get("files") if isinstance(body, dict) else None
        if not isinstance(target, dict) or not isinstance(files, list) or len(files) > _MOST_OBJECTS:
            raise Fault(400, "`target` names a repository, `files` what is to be copied into it.")
        wanted = [str(each.get("sha256")) if isinstance(each, dict) else "" for each in files]
        place = (f"{asking.kind_named(target.get('type'))}s", *asking.split_name(str(target.get("name"))))

        def copy() -> Response:
            with database.writing() as connection:
                source = asking.opened(connection, kinds, owner, name, who)
                into = may_commit(connection, place, "", who, False)
                have = owned.owned(connection, source.id, wanted)
                owned.check_quota(connection, into.owner, sum(file.size for file in have.values()), hub.limits.quota)
                for sha256, file in have.items():
                    owned.own(connection, into.id, sha256, file.key, file.size)
            failed = [{"sha256": each, "error": "The source has no such file."} for each in wanted if each not in have]
            return JSONResponse({"succeeded": [{"sha256": each} for each in have], "failed": failed})

        return await run_in_threadpool(copy)

    @router.post("/api/{kinds}/{owner}/{name}/lfs-files/batch")
    def delete_files(kinds: str, owner: str, name: str, who: Who) -> Response:
        raise Fault(501, "This hub does not rewrite history: squash the branch, then collect.")
