"""What a worker's process runs: `python -m allmend.compute.inside`.

The first line of standard input names what makes the trainer; each line after it is an order. The end of input is
the end of the process: a scheduler that died leaves no workers behind.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import sys
import threading
from typing import BinaryIO

from pydantic import BaseModel

from allmend.compute.here import failure
from allmend.compute.messages import ORDERS, Event, Failed, Ready, Segment
from allmend.compute.worker import Trainer
from allmend.errors import AllmendError


def main() -> None:
    """Serve orders until the input ends."""
    # What a library prints must not mix with messages.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    first = json.loads(sys.stdin.buffer.readline())
    orders: queue.Queue[Segment] = queue.Queue()
    stop = threading.Event()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, orders, stop), daemon=True).start()
    module, _, function = first["maker"].partition(":")
    trainer: Trainer = getattr(importlib.import_module(module), function)(**first["settings"])
    _say(out, Ready(about=f"process {os.getpid()}"))
    while True:
        segment = orders.get()
        _say(out, _done(trainer, segment, out, stop))


def _done(trainer: Trainer, segment: Segment, out: BinaryIO, stop: threading.Event) -> Event:
    try:
        return trainer.run(segment, lambda event: _say(out, event), stop.is_set)
    except AllmendError as error:
        return failure(segment, error)
    except Exception as error:
        import traceback

        traceback.print_exc()
        return Failed(trial=segment.trial, diverged=False, message=f"{type(error).__name__}: {error}")


def _listen(lines: BinaryIO, orders: queue.Queue[Segment], stop: threading.Event) -> None:
    while line := lines.readline():
        order = ORDERS.validate_json(line)
        if isinstance(order, Segment):
            stop.clear()
            orders.put(order)
        else:
            stop.set()
    # The scheduler is gone, or wants no more. Checkpoints are renamed into place, so nothing is half-written.
    os._exit(0)


def _say(out: BinaryIO, event: BaseModel) -> None:
    try:
        out.write(event.model_dump_json().encode() + b"\n")
        out.flush()
    except OSError:
        os._exit(0)


if __name__ == "__main__":
    main()
