"""Cells through a kernel's sockets. Every message from the kernel is hostile input: the key that signs it lies
inside the box, so shapes are checked, sizes bounded, and nothing it says is believed beyond what it shows.

Messages as in jupyter_client's "Messaging in Jupyter" 5.4.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from allmend.box.outputs import Outputs, Shown
from allmend.box.typed_line import Typing

MOST_MESSAGE = 128 * 2**20
"""Bytes of one message; ZeroMQ drops a larger one with its connection, and the cell says so."""
WAITING_MESSAGES = 8
READY_SECONDS = 60.0
_POLL_MS = 100
_IDLE_SECONDS = 5
"""For outputs that come after the kernel's answer."""
_STOP_SECONDS = 10
"""For a cell to stop once it was interrupted."""

Status = Literal["ok", "error", "interrupted", "died"]


@dataclass
class Outcome:
    """What one cell came to."""

    status: Status
    outputs: list[dict[str, Any]] = field(default_factory=list)
    execution_count: int | None = None
    error: str | None = None
    seconds: float = 0.0


class KernelGone(Exception):
    """The kernel ended, or the run was stopped, while it was waited for."""


@dataclass
class _Cell:
    """A cell that runs: `request` is the id of the message that asked for it."""

    request: str
    outputs: Outputs
    typing: Typing | None
    outcome: Outcome = field(default_factory=lambda: Outcome("ok"))
    started: float = field(default_factory=time.monotonic)
    replied: bool = False
    idle: bool = False
    interrupted: bool = False
    _idle_by: float = 0.0

    @property
    def over(self) -> bool:
        """Whether the kernel has answered, and said that it is idle or had time enough to."""
        return self.replied and (self.idle or time.monotonic() > self._idle_by)

    @property
    def seconds(self) -> float:
        """Since it was asked for."""
        return time.monotonic() - self.started

    def content_of(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """What a message says of this cell; None where it is about another, or says nothing."""
        parent, content = message.get("parent_header"), message.get("content")
        ours = isinstance(parent, dict) and parent.get("msg_id") == self.request
        return content if ours and isinstance(content, dict) else None

    def take_reply(self, content: dict[str, Any]) -> None:
        """The kernel's answer; outputs may still come after it."""
        self.replied, self._idle_by = True, time.monotonic() + _IDLE_SECONDS
        count = content.get("execution_count")
        if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 10**9:
            self.outcome.execution_count = count
        if content.get("status") != "ok":
            self.outcome.status = "error"
            name, value = content.get("ename"), content.get("evalue")
            self.outcome.error = f"{str(name)[:200]}: {str(value)[:2000]}"
            if name == "KeyboardInterrupt":
                self.outcome.status = "interrupted"

    def closed(self) -> Outcome:
        """What it came to."""
        self.outcome.outputs, self.outcome.seconds = self.outputs.cells(), self.seconds
        return self.outcome


class Kernel:
    """A kernel's sockets from outside the box."""

    def __init__(self, connection: dict[str, Any], gone: Callable[[], bool]) -> None:
        import zmq
        from jupyter_client.session import Session

        self.gone = gone
        self.session = Session(key=connection["key"].encode(), signature_scheme=connection["signature_scheme"])
        self._zmq = zmq
        self.context = zmq.Context()
        self.context.linger = 0
        # The kernel asks for a typed line under the name that the cell came under.
        self._name = secrets.token_bytes(8)
        self.shell = self._connect(connection, "shell", zmq.DEALER)
        self.stdin = self._connect(connection, "stdin", zmq.DEALER)
        self.control = self._connect(connection, "control", zmq.DEALER)
        self.iopub = self._connect(connection, "iopub", zmq.SUB)
        self.iopub.setsockopt(zmq.SUBSCRIBE, b"")
        self.poller = zmq.Poller()
        for sock in (self.shell, self.iopub, self.stdin):
            self.poller.register(sock, zmq.POLLIN)

    def _connect(self, connection: dict[str, Any], name: str, kind: int) -> Any:
        sock = self.context.socket(kind)
        if kind == self._zmq.DEALER:
            sock.setsockopt(self._zmq.IDENTITY, self._name)
        sock.setsockopt(self._zmq.MAXMSGSIZE, MOST_MESSAGE)
        sock.setsockopt(self._zmq.RCVHWM, WAITING_MESSAGES)
        # The kernel is waited for from the moment it starts; ZeroMQ's own 100 ms between tries would be felt.
        sock.setsockopt(self._zmq.RECONNECT_IVL, 5)
        place = connection[f"{name}_port"]
        joined = "-" if connection["transport"] == "ipc" else ":"
        sock.connect(f"{connection['transport']}://{connection['ip']}{joined}{place}")
        return sock

    def wait_until_ready(self) -> None:
        """Ask until the kernel answers on both channels; raises `KernelGone` after a minute or when it ends."""
        deadline = time.monotonic() + READY_SECONDS
        answered = heard = False
        asked_at = 0.0
        while not (answered and heard):
            now = time.monotonic()
            if self.gone() or now > deadline:
                raise KernelGone("the kernel did not become ready")
            if now - asked_at > 0.05:
                self.session.send(self.shell, "kernel_info_request", {})
                asked_at = now
            for sock, message in self._messages(20):
                answered = answered or (sock is self.shell and message["header"].get("msg_type") == "kernel_info_reply")
                heard = heard or sock is self.iopub

    def run(
        self,
        source: str,
        *,
        show: Callable[[Shown], None],
        seconds: float | None = None,
        waited: Callable[[], float] = lambda: 0.0,
        silent: bool = False,
        typed: Callable[[str, bool], str | None] | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Outcome:
        """Run one cell to its end. `meanwhile` is called now and then until it is there.

        `waited` says how many seconds the limit does not count: a person was asked.

        `typed` has a person type a line for `input()` and `getpass()` (prompt, hidden); it may block. Without it they
        fail as where nobody can type.

        Raises `KernelGone`; KeyboardInterrupt passes through.
        """
        sent = self.session.send(
            self.shell,
            "execute_request",
            {
                "code": source,
                "silent": silent,
                "store_history": not silent,
                "user_expressions": {},
                "allow_stdin": typed is not None,
                "stop_on_error": True,
            },
        )
        cell = _Cell(sent["header"]["msg_id"], Outputs(show), Typing(typed) if typed is not None else None)
        uncounted = waited()
        while not cell.over:
            if self.gone():
                self._take_rest(cell)
                cell.outcome.status = "died"
                return cell.closed()
            if seconds is not None:
                self._hold_to(cell, cell.seconds - (waited() - uncounted) - seconds)
            if cell.typing is not None and cell.typing.settled:
                self._answer(cell.typing, cell.outputs)
            meanwhile()
            for sock, message in self._messages(_POLL_MS):
                self._hear(cell, sock, message)
        if not cell.idle:
            cell.outputs.note(
                f"allmend: output of this cell is missing: a message was larger than {MOST_MESSAGE // 2**20} MiB\n"
            )
        if cell.interrupted:
            cell.outcome.status = "interrupted"
        return cell.closed()

    def _hold_to(self, cell: _Cell, late: float) -> None:
        """Interrupt a cell that is late by so many seconds; raises `KernelGone` where that does not help."""
        if late > 0 and not cell.interrupted:
            self.interrupt()
            cell.interrupted = True
            cell.outputs.note("allmend: this cell ran longer than its limit and was interrupted\n")
        elif late > _STOP_SECONDS:
            raise KernelGone("the cell did not stop when it was interrupted")

    def _hear(self, cell: _Cell, sock: Any, message: dict[str, Any]) -> None:
        kind, content = message["header"].get("msg_type"), cell.content_of(message)
        if content is None:
            return
        if sock is self.shell and kind == "execute_reply":
            cell.take_reply(content)
        elif sock is self.stdin and kind == "input_request" and cell.typing is not None:
            cell.typing.ask(message)
        elif sock is self.iopub and kind == "status":
            cell.idle = cell.idle or content.get("execution_state") == "idle"
        elif sock is self.iopub and isinstance(kind, str):
            cell.outputs.take(kind, content)

    def _take_rest(self, cell: _Cell) -> None:
        """What a kernel said before it ended and nobody has read yet; a bounded number of looks."""
        for _ in range(20):
            found = self._messages(0)
            for sock, message in found:
                kind, content = message["header"].get("msg_type"), cell.content_of(message)
                if content is not None and sock is self.iopub and isinstance(kind, str) and kind != "status":
                    cell.outputs.take(kind, content)
            if not found:
                return

    def _answer(self, typing: Typing, outputs: Outputs) -> None:
        """Give the kernel the line that was typed, and show it beneath the cell as notebooks do; or end the cell."""
        request, line = typing.take()
        if line is None:
            outputs.note("allmend: nobody typed an answer, and the cell was interrupted\n")
            self.interrupt()
            return
        shown = "········" if typing.hidden else line
        outputs.take("stream", {"name": "stdout", "text": f"{typing.prompt}{shown}\n"})
        self.session.send(self.stdin, "input_reply", {"value": line}, parent=request)

    def interrupt(self) -> None:
        """Ask the kernel to interrupt the running cell."""
        self.session.send(self.control, "interrupt_request", {})

    def _messages(self, wait_ms: int) -> list[tuple[Any, dict[str, Any]]]:
        """The well-formed messages that have arrived, at most a few of each channel."""
        found = []
        for sock, _ in self.poller.poll(wait_ms):
            for _ in range(50):
                try:
                    frames = sock.recv_multipart(self._zmq.NOBLOCK)
                except self._zmq.Again:
                    break
                message = self._read(frames)
                if message is not None:
                    found.append((sock, message))
        return found

    def _read(self, frames: list[bytes]) -> dict[str, Any] | None:
        if len(frames) > 64 or sum(map(len, frames)) > MOST_MESSAGE:
            return None
        try:
            _, parts = self.session.feed_identities(frames)
            message = self.session.deserialize(parts)
        except Exception:  # any nonsense the other side made up
            return None
        well_formed = isinstance(message, dict) and isinstance(message.get("header"), dict)
        return message if well_formed else None

    def close(self) -> None:
        """Close the sockets without waiting."""
        self.context.destroy(linger=0)
