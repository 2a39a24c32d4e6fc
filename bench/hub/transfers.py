"""How fast files go in and come out, against the least that any server could do with the same client.

upload     the stock client to our routes, and to a server that discards everything
download   the stock client from our routes, and from a server that answers what was recorded before, from memory
ranged     a plain ranged GET of the file rebuilt here, and of the same bytes by sendfile

The two that are compared are asked one after the other, in turns. Beside seconds stand the server's processor seconds
for a gigabyte: client and server share the machine's cores.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from common import client, folder, middle, noise, peak, rounds, server, spent, write

_GETS = 3
"""Plain GETs of each kind a round: they are short."""


def record(url: str, xet: str, size: int, place: Path) -> None:
    """Ask a store for all that the client will ask, and keep the answers."""
    from common import SECRET

    from allmend.hub.cas import CasTokens

    (place / "recorded").mkdir(exist_ok=True)
    kept: dict[str, Any] = {"reconstructions": {}, "bytes": {}}
    head = {"Authorization": f"Bearer {CasTokens(SECRET).mint('bench/hub', 'read')[0]}"}
    path = f"/v1/reconstructions/{xet}"
    with httpx.Client(base_url=url, timeout=120) as asking:
        for asked in json.loads((place / "asked.json").read_text()):
            more = {"Range": asked} if asked else {}
            answer = asking.get(path, headers=head | more)
            if answer.status_code != 200:
                continue
            body = answer.json()
            for name, ranges in body["fetch_info"].items():
                for one in ranges:
                    parts = urlsplit(one["url"])
                    first, last = one["url_range"]["start"], one["url_range"]["end"]
                    file = f"{name[:16]}-{first}-{last}"
                    (place / "recorded" / file).write_bytes(asking.get(one["url"]).content)
                    kept["bytes"][f"{name} {first}-{last}"] = file
                    one["url"] = f"http://HOST{parts.path}?{parts.query}"
            kept["reconstructions"][f"{path} {asked}"] = body
    (place / "recorded.json").write_text(json.dumps(kept))


def fetch(url: str, path: str, size: int) -> float:
    """Seconds of one plain ranged GET of all but the first and last byte, read into one buffer and dropped."""
    parts = urlsplit(url)
    begin = time.perf_counter()
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        head = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nRange: bytes=1-{size - 2}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        buffer, total = bytearray(1 << 20), 0
        while count := connection.recv_into(buffer):
            total += count
    assert total > size - 2, total
    return time.perf_counter() - begin


def main() -> None:
    flags = rounds(__doc__ or "")
    size = flags.megabytes * 1_000_000
    names = ("ours_up", "discard", "ours_down", "prebuilt", "ours_get", "sendfile")
    times: dict[str, list[float]] = {name: [] for name in names}
    processor: dict[str, list[float]] = {name: [] for name in names}

    def timed(name: str, pid: int, work: Callable[[], float]) -> None:
        before = spent(pid)
        times[name].append(work())
        processor[name].append((spent(pid) - before) / (size / 1e9))

    with folder() as place:
        cache = place / "cache"
        for turn in range(flags.rounds):
            file = noise(place / "file.bin", size, turn)
            with server(place / "d", "discard") as (url, pid):
                timed("discard", pid, lambda url=url, file=file: client(url, cache, upload=[str(file)]))
            with server(place / f"s{turn}") as (url, pid):
                timed("ours_up", pid, lambda url=url, file=file: client(url, cache, upload=[str(file)]))
                memory = peak(pid)
            file.unlink()
        file = noise(place / "file.bin", size, 0)
        import hf_xet

        xet = hf_xet.hash_files([str(file)])[0].hash
        here = place / "s0"
        (here / "file.bin").symlink_to(file)
        with server(here) as (url, _):
            (here / "asked.json").write_text(json.dumps(asked_ranges(url, here, xet, size)))
            record(url, xet, size, here)
        wanted = [(xet, size, str(place / "out"))]
        for _ in range(flags.rounds):
            with server(here, "prebuilt") as (url, pid):
                timed("prebuilt", pid, lambda url=url: client(url, cache, download=wanted))
            with server(here) as (url, pid), server(here, "sendfile", "file.bin") as (plain, other):
                timed("ours_down", pid, lambda url=url: client(url, cache, download=wanted))
                fetch(url, f"/plain/{xet}", size)
                fetch(plain, "/", size)
                for _ in range(_GETS):
                    timed("ours_get", pid, lambda url=url: fetch(url, f"/plain/{xet}", size))
                    timed("sendfile", other, lambda plain=plain: fetch(plain, "/", size))
    seconds = {name: middle(values) for name, values in times.items()}
    result = {
        "bytes": size,
        "rounds": flags.rounds,
        "seconds": seconds,
        "server_processor_seconds_for_a_gigabyte": {name: middle(values) for name, values in processor.items()},
        "all_seconds": {name: [round(value, 4) for value in values] for name, values in times.items()},
        "upload_share": round(seconds["discard"] / seconds["ours_up"], 3),
        "download_share": round(seconds["prebuilt"] / seconds["ours_down"], 3),
        "ranged_get_share": round(seconds["sendfile"] / seconds["ours_get"], 3),
        "server_peak_mb_upload": round(memory, 1),
    }
    write("transfers", result)


def asked_ranges(url: str, here: Path, xet: str, size: int) -> list[str]:
    """Which ranges of the file the stock client asks reconstructions of."""
    from common import asked

    asked(url)
    client(url, here / "cache", download=[(xet, size, str(here / "out"))])
    return [name.partition(" ")[2] for name in asked(url) if name.startswith("reconstruction ")]


if __name__ == "__main__":
    main()
