"""The supervisor's side of the launcher's socket."""

from __future__ import annotations

import marshal
import os
import socket
from collections.abc import Callable
from typing import Any

from allmend.errors import Unavailable

START_SECONDS = 30.0


class Control:
    """Sends the launcher its order and takes what it hands back."""

    def __init__(self) -> None:
        self.mine, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.mine.settimeout(START_SECONDS)

    def order(self, order: dict[str, Any]) -> None:
        """Send the order; closes our copy of the launcher's end, so that its death is seen."""
        self.theirs.close()
        # Version 2 is read alike by every Python 3; JSON would cost the launcher an import of ten milliseconds.
        self.mine.send(marshal.dumps(order, 2))

    def run_up(self, watch: Callable[[int], None]) -> tuple[dict[str, socket.socket], int | None]:
        """Wait until the launcher is confined; returns the listening sockets by name and the seccomp descriptor.

        `watch` is called with that descriptor as soon as it is there: the launcher's next calls wait for answers.
        Raises `Unavailable` naming the step that failed.
        """
        listeners: dict[str, socket.socket] = {}
        notify: int | None = None
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self.mine, 65536, 16)
            except TimeoutError:
                raise Unavailable("the box did not start within 30 s") from None
            except OSError as error:
                raise Unavailable(f"the box did not start: {error}") from None
            if not data:
                raise Unavailable("the box ended before it was ready")
            word, _, rest = data.decode("utf-8", "replace").partition(" ")
            if word == "failed":
                raise Unavailable(f"the box could not be closed: {rest}")
            if word == "listeners":
                listeners = {name: socket.socket(fileno=fd) for name, fd in zip(rest.split(), fds, strict=True)}
                self.mine.send(b"ok")
            elif word == "notify":
                notify = fds[0]
                os.set_inheritable(notify, False)
                watch(notify)
                self.mine.send(b"ok")
            elif word == "ready":
                return listeners, notify

    def close(self) -> None:
        """Close both ends."""
        self.mine.close()
        self.theirs.close()
