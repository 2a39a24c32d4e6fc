"""Three ways to cut and name what comes by other ways than Xet, in MB/s on one file of noise and one of text.

compiled   gear.cpp by ctypes
numpy      the same hash by six doublings over blocks
client     the stock client's own code (hf_xet.hash_files), which needs a file and hashes chunks too
hashing    naming the chunks (blake3), which the first two need besides
"""

from __future__ import annotations

import time
from pathlib import Path

import hf_xet
from common import folder, middle, noise, rounds, write

from allmend.hub.store import gear, gear_native, hashes


def named(data: bytes, ends: list[int]) -> None:
    begin, view = 0, memoryview(data)
    for end in ends:
        hashes.chunk_hash(view[begin:end])
        begin = end


def main() -> None:
    flags = rounds(__doc__ or "")
    size = flags.megabytes * 1_000_000
    result: dict[str, object] = {"bytes": size, "rounds": flags.rounds, "cutter": gear_native.library()[1]}
    with folder() as place:
        for kind in ("noise", "text"):
            file: Path = noise(place / "file", size, 1)
            if kind == "text":
                file.write_bytes(b"".join(b"%d: a line of a log, %d\n" % (n, n * n) for n in range(size // 32))[:size])
            data = file.read_bytes()
            times: dict[str, list[float]] = {name: [] for name in ("compiled", "numpy", "client", "hashing")}
            ends = gear.cuts(data, last=True)
            for _ in range(flags.rounds):
                for name, work in (
                    ("compiled", lambda data=data: gear.cuts(data, last=True)),
                    ("numpy", lambda data=data: gear.cuts(data, last=True, compiled=False)),
                    ("client", lambda file=file: hf_xet.hash_files([str(file)])),
                    ("hashing", lambda data=data, ends=ends: named(data, ends)),
                ):
                    begin = time.perf_counter()
                    work()
                    times[name].append(time.perf_counter() - begin)
            result[kind] = {name: round(len(data) / 1e6 / middle(values)) for name, values in times.items()}
    write("chunking", result)


if __name__ == "__main__":
    main()
