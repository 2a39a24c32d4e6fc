"""Two versions of a file of 100 MB, one byte apart, by git-lfs to a bare repository and by the stock client to us.

git-lfs pushes by its own transfer for `file://` remotes: no server and no network, the least that it can take. Bytes
are what the bare repository's objects, and our store, grow by; seconds are add, commit and push (git-lfs), and
upload (the stock client, in a process of its own, chunking included). KohakuHub is not measured: it is not in the
package index, and makes repositories by calling LakeFS, which is in none either.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from common import client, folder, middle, noise, rounds, server, write


def size(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


def git(where: Path, *arguments: str) -> None:
    alone = {
        "GIT_CONFIG_GLOBAL": str(where.parent / "gitconfig"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "HOME": str(where.parent),
    }
    who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *who, *arguments], cwd=where, env=os.environ | alone, check=True, capture_output=True)


def changed(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.seek(file.stat().st_size // 2)
        byte = stream.read(1)
        stream.seek(-1, 1)
        stream.write(bytes([byte[0] ^ 1]))


def by_git_lfs(place: Path, source: Path) -> list[tuple[float, int]]:
    bare, work = place / "bare.git", place / "work"
    work.mkdir(parents=True)
    git(place, "init", "--bare", str(bare))
    git(work, "init")
    git(work, "lfs", "install", "--local")
    git(work, "lfs", "track", "*.bin")
    git(work, "remote", "add", "origin", f"file://{bare}")
    shutil.copy(source, work / "file.bin")
    found = []
    for turn in range(2):
        if turn:
            changed(work / "file.bin")
        before, begin = size(bare), time.perf_counter()
        git(work, "add", ".")
        git(work, "commit", "-m", "version")
        git(work, "push", "origin", "HEAD:main")
        found.append((time.perf_counter() - begin, size(bare) - before))
    return found


def by_us(place: Path, source: Path) -> list[tuple[float, int]]:
    place.mkdir(parents=True)
    file = Path(shutil.copy(source, place / "file.bin"))
    found = []
    with server(place) as (url, _):
        for turn in range(2):
            if turn:
                changed(file)
            before = size(place / "store")
            seconds = client(url, place / f"cache{turn}", upload=[str(file)])
            found.append((seconds, size(place / "store") - before))
    return found


def main() -> None:
    flags = rounds(__doc__ or "")
    times: dict[str, list[list[float]]] = {"git_lfs": [[], []], "allmend": [[], []]}
    grown: dict[str, list[int]] = {}
    with folder() as place:
        for turn in range(flags.rounds):
            source = noise(place / "source", 100_000_000, turn)
            for name, work in (("git_lfs", by_git_lfs), ("allmend", by_us)):
                measured = work(place / f"{name}{turn}", source)
                grown[name] = [bytes_ for _, bytes_ in measured]
                for version, (seconds, _) in enumerate(measured):
                    times[name][version].append(seconds)
    done = subprocess.run(["git", "lfs", "version"], capture_output=True, text=True, check=True)
    result: dict[str, object] = {
        "file_bytes": 100_000_000,
        "rounds": flags.rounds,
        "git_lfs_version": done.stdout.strip(),
    }
    for name, (first, second) in times.items():
        result[name] = {
            "first": {"seconds": middle(first), "bytes": grown[name][0]},
            "one_byte_changed": {"seconds": middle(second), "bytes": grown[name][1]},
        }
    write("git_lfs", result)


if __name__ == "__main__":
    main()
