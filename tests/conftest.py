"""Settings of all tests."""

from __future__ import annotations

import os

# One thread: tests run beside each other, and tiny matrices are faster without a crew.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
