"""Where work runs: here, in another process, later on another machine.

messages    what goes to a worker and what comes back: typed values that are JSON on the way
worker      the protocol of a worker, and of what does the work inside it
here        a worker in this process
process     a worker in a process of its own, spoken to over pipes
inside      what such a process runs

A scheduler knows workers by this protocol alone: it hands out segments of trials, hears events, and takes a worker
that died for what it is. A trial's state lies in its folder, so that any worker can go on where another stopped.
"""

from __future__ import annotations

from allmend.compute.here import HereWorker
from allmend.compute.messages import Event, Failed, Finished, Lost, Ready, Segment, Stepped
from allmend.compute.process import ProcessWorker
from allmend.compute.worker import Trainer, Worker

__all__ = [
    "Event", "Failed", "Finished", "HereWorker", "Lost", "ProcessWorker", "Ready", "Segment", "Stepped", "Trainer",
    "Worker",
]  # fmt: skip
