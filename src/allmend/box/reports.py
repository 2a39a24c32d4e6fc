"""What the interpreter inside says it tried: hints for a person, never a ground for a decision."""

from __future__ import annotations

import os
import socket

from allmend.box.notices import Judge, report_file
from allmend.box.record import Record

_AT_A_TIME = 200


class Reports:
    """The supervisor's end of the socket that code inside reports to.

    Attributes:
        mine: the end to read from.
        theirs: the end that goes inside.

    Args:
        content: the working folder as code inside sees it; relative paths begin there.
    """

    def __init__(self, record: Record, judge: Judge, content: str) -> None:
        self._record, self._judge, self._content = record, judge, content
        self.mine, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.mine.setblocking(False)

    def take(self) -> None:
        """Record what has come; hostile input."""
        for _ in range(_AT_A_TIME):
            try:
                data = self.mine.recv(2048)
            except OSError:
                return
            if self._record.cell < 0:
                continue  # the kernel's own start
            kind, _, path = data.decode("utf-8", "replace").partition("\n")
            if not path.startswith("/"):
                path = os.path.join(self._content, path)  # noqa: PTH118
            if kind in ("read", "write", "link"):
                report_file(self._record, self._judge, path, kind == "write", "interpreter")

    def pass_on(self) -> None:
        """The box has what goes inside: close our copy of it."""
        self.theirs.close()

    def close(self) -> None:
        """Close both ends."""
        self.mine.close()
        self.theirs.close()
