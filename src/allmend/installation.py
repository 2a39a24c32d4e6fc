"""Is this installation what it should be? `python -m allmend.installation` after installing; used by the Makefile.

The default index gives Linux a torch with gigabytes of CUDA packages. On a machine without a GPU that is a mistake
of the installation, and better said at once than found on the disk later.
"""

from __future__ import annotations

import sys
from importlib.metadata import distributions
from pathlib import Path

HINT = (
    "Give a source of CPU wheels and start over:\n"
    "  make clean && make demo TORCH_INDEX=<the CPU wheel index of the torch project>\n"
    "The README says more under «Installing»."
)


def cuda_packages() -> list[str]:
    """Names of installed CUDA packages."""
    names = {distribution.metadata["Name"] or "" for distribution in distributions()}
    return sorted(name for name in names if name.lower().startswith("nvidia-"))


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU that its kernel knows of."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/proc/driver/nvidia").exists()


def main() -> int:
    """Say what is wrong; 0 when nothing is."""
    extra = cuda_packages()
    if extra and not has_gpu():
        print(  # noqa: T201
            f"error: this machine has no GPU, but {len(extra)} CUDA packages were installed ({extra[0]}, …).\n{HINT}",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
