"""Runs a script or module for which a second is a second of the processor, not of the wall.

    python bench/search/processor_clock.py FILE WORDS…
    python bench/search/processor_clock.py -m MODULE WORDS…

So two programs can be given the same budget on a machine that others use at the same time. One thread each
(`OMP_NUM_THREADS=1`), since the processor's clock counts all threads of a process together.
"""

from __future__ import annotations

import runpy
import sys
import time


def main() -> None:
    """Change the clocks, then run."""
    time.monotonic = time.perf_counter = time.process_time
    del sys.argv[0]
    if sys.argv[0] == "-m":
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = sys.argv[0].rpartition("/")[0] or "."
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
