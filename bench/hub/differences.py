"""What travels when little changed: bytes of the bodies that the stock client sends, counted at the server.

one_byte        a file of 100 MB with one byte changed, by a client that has never uploaded anything
similar_model   a model whose first tenth of the weights was tuned, beside the first, in four files
plain           the same first file once more by a plain PUT: what the store grows by
git_lfs         what git-lfs sends: whole files, by its own rules (one object a file, named by its SHA-256)
"""

from __future__ import annotations

import os
from pathlib import Path

import httpx
from common import asked, client, folder, noise, server, write


def stored(place: Path) -> int:
    return sum(path.stat().st_size for path in (place / "store").rglob("*") if path.is_file())


def main() -> None:
    size, part = 100_000_000, 25_000_000
    with folder() as place, server(place) as (url, _):
        file = noise(place / "file", size, 1)
        asked(url)
        client(url, place / "cache1", upload=[str(file)])
        first = sum(asked(url).values())
        changed = bytearray(file.read_bytes())
        changed[size // 2] ^= 1
        file.write_bytes(changed)
        client(url, place / "cache2", upload=[str(file)])
        second = asked(url)
        second.pop("telemetry", None)
        before = stored(place)
        with file.open("rb") as stream:
            httpx.put(f"{url}/plain", content=iter(lambda: stream.read(1 << 20), b""), timeout=300).raise_for_status()
        grown = stored(place) - before

        (place / "model").mkdir()
        shards = [noise(place / "model" / f"model-{n}.safetensors", part, 10 + n) for n in range(4)]
        client(url, place / "cache3", upload=[str(shard) for shard in shards])
        asked(url)
        tuned = size // 10
        with shards[0].open("r+b") as stream:
            stream.write(os.urandom(tuned))
        client(url, place / "cache4", upload=[str(shard) for shard in shards])
        similar = asked(url)
        similar.pop("telemetry", None)
    sent = sum(second.values())
    result = {
        "file_bytes": size,
        "first_upload_sent": first,
        "one_byte": {"sent": sent, "share": round(sent / size, 5), "by_kind": second},
        "similar_model": {
            "model_bytes": 4 * part,
            "really_different": tuned,
            "sent": sum(similar.values()),
            "over_difference": round(sum(similar.values()) / tuned, 4),
        },
        "plain_put_again_grows_store_by": grown,
        "git_lfs_would_send": {"one_byte": size, "similar_model": part},
    }
    write("differences", result)


if __name__ == "__main__":
    main()
