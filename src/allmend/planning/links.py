"""Links to notebooks: GitHub, Colab, Gist, Hugging Face, or the file itself. Fetched only when a person names one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from allmend.errors import FetchError, InputError

if TYPE_CHECKING:
    from allmend.planning.session import Reader
    from allmend.planning.world import Clone, World

LARGEST = 128 * 2**20
"""Bytes of a notebook that is fetched."""


def is_link(thing: str) -> bool:
    """Whether `thing` is an address rather than a path."""
    return bool(re.match(r"https?://", thing, re.IGNORECASE))


def raw(link: str) -> str:
    """The address of the file behind a page that shows it."""
    link = link.strip()
    match = re.match(r"https?://colab\.research\.google\.com/github/([^/]+)/([^/]+)/blob/([^?#]+)", link)
    if match:
        return f"https://raw.githubusercontent.com/{match[1]}/{match[2]}/{match[3]}"
    match = re.match(r"https?://(?:www\.)?github\.com/([^/]+)/([^/]+)/(?:blob|raw)/([^?#]+)", link)
    if match:
        return f"https://raw.githubusercontent.com/{match[1]}/{match[2]}/{match[3]}"
    match = re.match(r"https?://(?:nbviewer\.org|nbviewer\.jupyter\.org)/github/([^/]+)/([^/]+)/blob/([^?#]+)", link)
    if match:
        return f"https://raw.githubusercontent.com/{match[1]}/{match[2]}/{match[3]}"
    match = re.match(r"https?://colab\.research\.google\.com/gist/([^/]+)/([0-9a-f]+)", link)
    match = match or re.match(r"https?://gist\.github\.com/([^/]+)/([0-9a-f]+)", link)
    if match:
        return f"https://gist.githubusercontent.com/{match[1]}/{match[2]}/raw"
    match = re.match(r"https?://colab\.research\.google\.com/drive/([\w-]+)", link)
    match = match or re.match(r"https?://drive\.google\.com/(?:file/d/|open\?id=)([\w-]+)", link)
    if match:
        return f"https://drive.google.com/uc?export=download&id={match[1]}"
    match = re.match(r"(https?://huggingface\.co/.+?)/blob/(.+)$", link)
    if match:
        return f"{match[1]}/resolve/{match[2]}"
    if re.match(r"https?://(?:www\.)?github\.com/[^/]+/[^/]+/?$", link):
        raise InputError(
            "this is a whole repository; clone it and plan the folder",
            where=link,
            hint="git clone URL && allmend plan FOLDER",
        )
    return link


def fetch(link: str, *, largest: int = LARGEST) -> bytes:
    """The bytes behind a link; nothing of them is run. Raises `FetchError`."""
    import httpx

    address = raw(link)
    try:
        with httpx.stream("GET", address, follow_redirects=True, timeout=30) as response:
            if response.status_code != 200:
                raise FetchError(f"the server answered {response.status_code}", where=address)
            parts: list[bytes] = []
            size = 0
            for part in response.iter_bytes():
                size += len(part)
                if size > largest:
                    raise FetchError(f"more than {largest >> 20} MiB", where=address)
                parts.append(part)
            return b"".join(parts)
    except httpx.HTTPError as error:
        raise FetchError(f"it could not be fetched ({type(error).__name__})", where=address) from None
    except httpx.InvalidURL:
        raise InputError("this is no address", where=link) from None


def following(nearby: Reader | None) -> Reader:
    """A reader that looks beside the notebook first and fetches a clone's script else (`--follow`)."""

    def read(path: str, cwd: str, clone: Clone | None, world: World) -> str | None:
        found = nearby(path, cwd, clone, world) if nearby is not None else None
        if found is not None:
            return found
        origin = world.source_of(path, cwd) if clone is None else _script(path, cwd, clone, world)
        if origin is None or not is_link(origin):
            return None
        try:
            return fetch(origin, largest=1_000_000).decode("utf-8", "replace")
        except (FetchError, InputError):
            return None

    return read


def _script(path: str, cwd: str, clone: Clone, world: World) -> str | None:
    match = re.match(r"https?://github\.com/([^/]+)/([^/]+)$", clone.url)
    name = clone.path.rsplit("/", 1)[-1]
    key = world.key(path, cwd)
    inside = key.rsplit(f"{name}/", 1)[-1] if f"{name}/" in key else None
    if match and inside and ".." not in inside:
        return f"https://raw.githubusercontent.com/{match[1]}/{match[2]}/HEAD/{inside}"
    return None
