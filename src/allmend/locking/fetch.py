"""Files and pages from outside, fetched for their digest. Nothing fetched is opened, unpacked or run here."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from allmend.box.egress.addresses import is_public
from allmend.errors import FetchError, NotFound, Refused
from allmend.locking import store
from allmend.nouns.lock import LockedFile

if TYPE_CHECKING:
    import httpx

MOST_BYTES = 50 * 2**30
_MOST_PAGE = 64 * 2**20


def _client() -> httpx.Client:
    import httpx

    return httpx.Client(
        follow_redirects=True,
        timeout=httpx.Timeout(60, connect=20),
        event_hooks={"request": [_public_only]},
        headers={"User-Agent": "allmend", "Accept-Encoding": "identity"},
        max_redirects=10,
    )


def _public_only(request: httpx.Request) -> None:
    check_public(str(request.url))


def check_public(url: str) -> None:
    """Refuse addresses of this machine's own network: what a notebook names must not be fetched from there for it.

    A proxy that this machine's owner set decides for itself. Raises `Refused`, `FetchError`.
    """
    from urllib.request import getproxies, proxy_bypass

    try:
        split = urlsplit(url)
        host, port = split.hostname or "", split.port or (443 if split.scheme == "https" else 80)
    except ValueError:
        raise FetchError("this is no address that can be fetched", where=url) from None
    if split.scheme not in ("http", "https"):
        raise Refused("only http and https addresses are fetched", where=url)
    if split.scheme in getproxies() and not proxy_bypass(host):
        return
    if f"{host}:{port}" in _owner_hosts():
        return
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchError(
            f"the name {host} could not be resolved ({error})", where=url,
            hint="Is this machine connected? Locking needs the network once; a locked run does not.",
        ) from None  # fmt: skip
    if not all(is_public(str(entry[4][0])) for entry in found):
        raise Refused(f"{host} leads to an address that is not public", where=url)


def _owner_hosts() -> list[str]:
    from allmend.box import owner

    return [*owner.read().hosts, *_hub_hosts()]


def _hub_hosts() -> list[str]:
    import os

    named = os.environ.get("HF_ENDPOINT")
    split = urlsplit(named) if named else None
    if split is None or not split.hostname:
        return []
    return [f"{split.hostname}:{split.port or (443 if split.scheme == 'https' else 80)}"]


@contextmanager
def _opened(url: str, headers: dict[str, str] | None = None) -> Iterator[httpx.Response]:
    import httpx

    try:
        with _client() as client, client.stream("GET", url, headers=headers) as response:
            _judge(response, url)
            yield response
    except httpx.HTTPError as error:
        raise FetchError(f"it could not be fetched ({type(error).__name__}: {error})", where=url) from None
    except (httpx.InvalidURL, UnicodeError) as error:
        raise FetchError(f"this is no address that can be fetched ({error})", where=url) from None


def _judge(response: httpx.Response, url: str) -> None:
    status = response.status_code
    if status in (404, 410):
        raise NotFound("it is not there any more" if status == 410 else "there is nothing there (404)", where=url)
    if status in (401, 403):
        raise Refused(f"it is private, or needs an account ({status})", where=url)
    if status >= 400:
        raise FetchError(f"the server answered {status}", where=url)


def file(url: str, *, most: int | None = None) -> LockedFile:
    """Fetch a file into the cache.

    Raises `NotFound`, `Refused` (private, or not a public address), `FetchError`, `DoesNotFit`.
    """
    with _opened(url) as response:
        digest, size = store.add(response.iter_bytes(2**18), most=most or MOST_BYTES, what=url)
        told = response.headers.get("Content-Length")
        if told and told.isdigit() and int(told) != size and "Content-Encoding" not in response.headers:
            raise FetchError(f"it broke off after {size:,} of {int(told):,} bytes", where=url)
        return LockedFile(url=url, sha256=digest, bytes=size, modified=response.headers.get("Last-Modified"))


def page(url: str, accept: str = "application/json") -> tuple[bytes, dict[str, str]]:
    """A page's bytes and headers (lower-case names)."""
    with _opened(url, {"Accept": accept}) as response:
        data = b""
        for block in response.iter_bytes():
            data += block
            if len(data) > _MOST_PAGE:
                raise FetchError("the page is larger than 64 MiB", where=url)
        return data, {name.lower(): value for name, value in response.headers.items()}


def json_page(url: str, accept: str = "application/json") -> Any:
    """A page read as JSON."""
    import json

    data, _ = page(url, accept)
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise FetchError("the answer is not JSON", where=url) from None


def wheel(url: str, sha256: str) -> None:
    """Fetch one distribution file into the cache and hold it to its digest."""
    from pathlib import Path
    from urllib.parse import unquote

    split = urlsplit(url)
    if split.scheme == "file":
        path = Path(unquote(split.path))
        if not path.is_file():
            raise NotFound("the file is gone", where=str(path))
        found, _ = store.add_file(path)
    else:
        found = file(url).sha256
    if found != sha256:
        raise FetchError(
            f"what is there now is another file (SHA-256 {found[:12]}…, locked {sha256[:12]}…)", where=url,
            hint="Do not use it before you know why; `allmend lock --update NAME` takes the new one.",
        )  # fmt: skip


def there(url: str) -> None:
    """Ask whether a file is still served, without fetching it; raises as `file` does."""
    import httpx

    try:
        with _client() as client:
            _judge(client.head(url), url)
    except httpx.HTTPError as error:
        raise FetchError(f"it could not be asked for ({type(error).__name__}: {error})", where=url) from None
