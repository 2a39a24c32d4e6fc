"""Fetch a source distribution as a plain file: PACKAGE VERSION TARGET. Nothing of it is run."""

from __future__ import annotations

import sys
from pathlib import Path

from allmend.models.index import PackageIndex


def main() -> None:
    """Fetch."""
    package, version, target = sys.argv[1:]
    with PackageIndex() as index:
        url = index.locate(package, version, f"{package.replace('-', '_')}-{version}.tar.gz")
        with index.open(url) as answer, Path(target).open("wb") as out:
            for part in answer.iter_bytes():
                out.write(part)


if __name__ == "__main__":
    main()
