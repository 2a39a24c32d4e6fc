"""Programs, connections and refused calls, seen through seccomp notifications as they happen.

What is continued is only seen: another thread can change the text after it was read, so these rows say `attempted`
unless the box refuses the thing whatever the text. What is refused here is refused for good.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import socket
import struct
import threading
from collections.abc import Callable, Mapping

from allmend.box.inside import syscalls
from allmend.box.record import Record

_RECV, _SEND, _ID_VALID = 0xC0502100, 0xC0182101, 0x40082102
_CONTINUE = 1
_NOTICE = struct.Struct("=QIIiIQ6Q")

_SIGNAL_NAMES = {1: "HUP", 2: "INT", 9: "KILL", 15: "TERM", 19: "STOP"}


class Call:
    """One call that waits for its answer."""

    def __init__(self, fd: int, data: bytes | bytearray) -> None:
        self.fd = fd
        self.id, self.pid, _, number, _, _, *self.args = _NOTICE.unpack(data)
        self.name = _NAMES.get(number, str(number))

    def read(self, address: int, most: int, *, text: bool = False) -> bytes:
        """Memory of the caller, up to its first NUL for a `text`; empty when it cannot be read."""
        data = b""
        try:
            memory = os.open(f"/proc/{self.pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            # A text may end just before an unmapped page.
            while len(data) < most:
                step = min(most - len(data), 4096 - (address + len(data)) % 4096)
                block = os.pread(memory, step, address + len(data))
                data += block
                if not block or (text and b"\0" in block):
                    break
        except (OSError, OverflowError):
            pass
        finally:
            os.close(memory)
        return data if self.valid() else b""

    def text(self, address: int) -> str:
        """A C string of the caller."""
        return self.read(address, 4096, text=True).partition(b"\0")[0].decode("utf-8", "replace")

    def valid(self) -> bool:
        """Whether the caller still waits (its pid was not given to another process meanwhile)."""
        try:
            fcntl.ioctl(self.fd, _ID_VALID, struct.pack("=Q", self.id))
        except OSError:
            return False
        return True

    def leader(self) -> int:
        """The process of the calling thread; raises OSError when it is gone."""
        return _leader(self.pid)

    def go_on(self) -> None:
        """Let the kernel carry the call out."""
        self._answer(0, 0, _CONTINUE)

    def fail(self, code: int) -> None:
        """Refuse the call with `code`."""
        self._answer(0, -code, 0)

    def succeed(self, value: int = 0) -> None:
        """Answer in the kernel's place: the supervisor has carried the call out."""
        self._answer(value, 0, 0)

    def _answer(self, value: int, error: int, flags: int) -> None:
        try:
            fcntl.ioctl(self.fd, _SEND, struct.pack("=QqiI", self.id, value, error, flags))
        except OSError:
            pass  # the caller is gone


def _leader(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:  # noqa: PTH123
        for line in file:
            if line.startswith("Tgid:"):
                return int(line.split()[1])
    raise ProcessLookupError(pid)


_NAMES = {
    nr: name
    for name in syscalls.NUMBERS
    if syscalls.machine() in syscalls.ARCHITECTURES and (nr := syscalls.number(name, syscalls.machine())) is not None
}

Emulate = Callable[[Call], None]
Judge = Callable[[str, bool], bool]
"""(path, for writing) to whether the box would let it through."""


_OTHERS = re.compile(
    r"/proc/(?:\d+/(?:task/\d+/)?(?:environ|mem|maps|root|cwd|fd|stack|syscall)|kcore|kmem|kallsyms|sysrq-trigger)\b.*"
)


def report_file(record: Record, judge: Judge, path: str, writing: bool, source: str) -> None:
    """Record a file access that the box does not let through, or that looks into other processes."""
    path = os.path.normpath(path)
    if not judge(path, writing):
        record.add("write" if writing else "read", path, "denied", source=source)
    elif _OTHERS.fullmatch(path):
        record.add("read", path, "attempted", source=source, detail="looks into a process or the kernel")


class Notices(threading.Thread):
    """Answers every notification of one box until its last process is gone."""

    def __init__(
        self,
        fd: int,
        record: Record,
        *,
        judge: Judge,
        emulate: Mapping[str, Emulate] | None = None,
        named: Callable[[str], str | None] = lambda address: None,
        search: str = "",
    ) -> None:
        super().__init__(name="allmend-notices", daemon=True)
        self.fd = fd
        self.record = record
        self.judge = judge
        self.search = frozenset(search.split(":"))
        """The folders of the box's PATH."""
        self.named = named
        """The host that an address of the box's own name server stands for."""
        self.emulate = emulate or {}
        """By the name of a call: who carries it out in the kernel's place."""

    def run(self) -> None:
        """Take calls until the other side hangs up."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN | select.POLLHUP)
        buffer = bytearray(_NOTICE.size)
        try:
            while True:
                for _, event in poll.poll():
                    if event & select.POLLIN:
                        buffer[:] = bytes(_NOTICE.size)
                        try:
                            fcntl.ioctl(self.fd, _RECV, buffer)
                        except OSError as error:
                            if error.errno in (errno.ENOENT, errno.EINTR):
                                continue  # the caller was killed while it waited
                            return
                        self._take(Call(self.fd, buffer))
                    elif event & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
                        return
        finally:
            os.close(self.fd)

    def _take(self, call: Call) -> None:
        try:
            if call.name in self.emulate:
                self.emulate[call.name](call)
            elif call.name in syscalls.AIMED and _at_itself(call):
                call.go_on()
            elif call.name in _WATCHED:
                self._see(call)
                call.go_on()
            else:
                self._refuse(call)
        except Exception:  # a call left waiting would hang the notebook
            call.fail(errno.EPERM)

    def _refuse(self, call: Call) -> None:
        if call.name in syscalls.ABSENT:
            self.record.add("call", call.name, "denied", source="kernel")
            call.fail(errno.ENOSYS)
            return
        detail = ""
        if call.name == "socket":
            detail = f"family {call.args[0]}, type {call.args[1] & 15}, protocol {call.args[2]}"
        elif call.name == "clone":
            detail = "a new namespace"
        elif call.name in syscalls.AIMED:
            detail = f"aimed at process {call.args[syscalls.AIMED[call.name]] & 0xFFFFFFFF}"
        self.record.add("call", call.name, "denied", source="kernel", detail=detail)
        call.fail(errno.EAFNOSUPPORT if call.name == "socket" else errno.EPERM)

    def _see(self, call: Call) -> None:
        if call.name in ("execve", "execveat"):
            self._program(call)
        elif call.name in ("connect", "sendto"):
            place, length = (1, 2) if call.name == "connect" else (4, 5)
            self.connection(call.read(call.args[place], min(call.args[length], 128)), call.name)
        elif call.name == "kill":
            target, number = (
                struct.unpack("=i", struct.pack("=I", call.args[0] & 0xFFFFFFFF))[0],
                call.args[1] & 0xFFFF,
            )
            if number:
                self.record.add(
                    "process",
                    f"signal {_SIGNAL_NAMES.get(number, number)} to {target}",
                    "attempted",
                    source="kernel",
                )
        else:
            self._file(call)

    def _program(self, call: Call) -> None:
        path = call.text(call.args[0] if call.name == "execve" else call.args[1])
        # A shell or execvp looking along PATH; in any other folder a link could make it look absent from here.
        along_path = os.path.dirname(path) in self.search  # noqa: PTH120
        if along_path and not os.path.lexists(f"/proc/{call.pid}/root{path}"):
            return
        path = path or "a program by descriptor"
        self.record.add("program", path, "attempted", source="kernel")

    def _file(self, call: Call) -> None:
        by_directory = call.name in ("openat", "openat2")
        path = call.text(call.args[1 if by_directory else 0])
        if not path:
            return
        if call.name == "openat2":
            flags = struct.unpack("=Q", call.read(call.args[2], 8).ljust(8, b"\0"))[0]
        else:
            flags = call.args[2] if by_directory else call.args[1] if call.name == "open" else os.O_WRONLY
        if not path.startswith("/"):
            return  # relative to a folder that was itself opened under the rules
        self.file(path, bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)), "kernel")

    def file(self, path: str, writing: bool, source: str) -> None:
        """Record a file access that the box does not let through."""
        report_file(self.record, self.judge, path, writing, source)

    def connection(self, data: bytes, call: str) -> None:
        """Record where a socket was pointed (level A: an empty network leaves only what is ours reachable)."""
        if len(data) < 2:
            return
        family = int.from_bytes(data[:2], "little")
        if family == socket.AF_UNIX:
            self._local(data[2:])
            return
        if family == socket.AF_INET and len(data) >= 8:
            port, address = int.from_bytes(data[2:4], "big"), socket.inet_ntop(socket.AF_INET, data[4:8])
            inside = address.startswith("127.")
        elif family == socket.AF_INET6 and len(data) >= 24:
            port, address = int.from_bytes(data[2:4], "big"), socket.inet_ntop(socket.AF_INET6, data[8:24])
            inside = address == "::1" or address.startswith("::ffff:127.")
        else:
            return
        name = self.named(address) if address.startswith("127.77.") else None
        if name is not None and port not in (80, 443):
            advice = "A host at another port is reached through the proxy: grant it as NAME:PORT."
            self.record.add("host", f"{name}:{port}", "denied", source="kernel", detail=advice)
            return
        ours = name is not None or (inside and port in (3128, 53))
        if ours or port == 0:
            return
        shown = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        if inside:
            self.record.add(
                "connect", shown, "attempted", source="kernel", detail="the box's own loopback, not this machine's"
            )
        else:
            self.record.add("connect", shown, "denied", source="kernel", detail="an address, not a permitted name")

    def _local(self, data: bytes) -> None:
        path = data.rstrip(b"\0") if data[:1] != b"\0" else b"@" + data[1:].rstrip(b"\0")
        text = path.partition(b"\0")[0].decode("utf-8", "replace")
        if text.endswith("/nscd/socket") or not text:
            return
        if text.startswith("@") or not self.judge(text, False):
            self.record.add("connect", f"unix:{text}", "denied", source="kernel")


def _at_itself(call: Call) -> bool:
    """Whether a call that names a process or thread names the caller's own; its arguments cannot change any more."""
    place = syscalls.AIMED[call.name]
    if place and call.args[0] != (0 if call.name == "setpriority" else 1):
        return False
    return _leader(call.args[place] & 0xFFFFFFFF) == call.leader()


_WATCHED = {"execve", "execveat", "connect", "sendto", "kill", "open", "creat", "openat", "openat2"}
