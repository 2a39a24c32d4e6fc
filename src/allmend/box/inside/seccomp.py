"""The system call filter: a classic BPF program, assembled here, for x86-64 and aarch64.

What it refuses and why is in `docs/threat-model.md`. It denies by name and answers newer calls than it knows with
ENOSYS; file access is Landlock's and the mounts' work, not the filter's.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from . import syscalls

TYPE_CHECKING = False  # importing typing would cost each start some milliseconds
if TYPE_CHECKING:
    from collections.abc import Sequence

KILL_PROCESS = 0x80000000
USER_NOTIF = 0x7FC00000
ALLOW = 0x7FFF0000
ERRNO = 0x00050000

_LD_W_ABS, _JEQ, _JGT, _JGE, _JSET, _RET, _AND = 0x20, 0x15, 0x25, 0x35, 0x45, 0x06, 0x54
_NR, _ARCH, _ARGS = 0, 4, 16
_X32_BIT = 0x40000000

# From linux/sched.h. CLONE_NEWTIME shares a bit with the exit signal in clone() and cannot be asked for there.
_CLONE_NEW = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_STREAM, _DGRAM = 1, 2
_TYPE_MASK = 0xF
_MSG_FASTOPEN = 0x20000000

_SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER, _FLAG_NEW_LISTENER = 1, 8

WATCHED = ("execve", "execveat", "connect", "kill")
"""Seen by the supervisor, then decided by the kernel (level A)."""
WATCHED_FILES = ("open", "creat", "openat", "openat2")
"""Seen as well when file access is traced, at some 50 µs a call."""
EMULATED = ("connect", "bind", "listen", "chmod", "fchmod", "fchmodat", "fchmodat2", "utimensat")
"""Level B: decided and carried out by the supervisor, on an address or a path it has read itself."""


class Assembler:
    """Collects BPF instructions; a check is a run of instructions that falls through when it does not match."""

    def __init__(self) -> None:
        self.code: list[tuple[int, int, int, int]] = []

    def add(self, code: int, k: int, jt: int = 0, jf: int = 0) -> None:
        """One instruction."""
        self.code.append((code, jt, jf, k & 0xFFFFFFFF))

    def load(self, offset: int) -> None:
        """A := the 32-bit word of `struct seccomp_data` at `offset`."""
        self.add(_LD_W_ABS, offset)

    def answer(self, action: int) -> None:
        """Return `action`."""
        self.add(_RET, action)

    def when_call(self, nr: int | None, body: Sequence[tuple[int, int, int, int]]) -> None:
        """Run `body` (which ends in returns on every path) when A, the call's number, is `nr`."""
        if nr is None:
            return
        self.add(_JEQ, nr, 0, len(body))
        self.code.extend(body)

    def bytes(self) -> bytes:
        """The program as `struct sock_filter[]`."""
        return b"".join(struct.pack("=HBBI", *instruction) for instruction in self.code)


def _arg(index: int) -> int:
    return _ARGS + 8 * index  # the low 32 bits; both architectures are little-endian


def _returns(action: int) -> list[tuple[int, int, int, int]]:
    one = Assembler()
    one.answer(action)
    return one.code


def _refuse_flag(index: int, mask: int, action: int, otherwise: int = ALLOW) -> list[tuple[int, int, int, int]]:
    body = Assembler()
    body.load(_arg(index))
    body.add(_JSET, mask, 0, 1)
    body.answer(action)
    body.answer(otherwise)
    return body.code


def _ioctl(refuse: int) -> list[tuple[int, int, int, int]]:
    body = Assembler()
    body.load(_arg(1))
    for command in (_TIOCSTI, _TIOCLINUX):
        body.add(_JEQ, command, 0, 1)
        body.answer(refuse)
    body.answer(ALLOW)
    return body.code


def _family(body: Assembler, family: int, pairs: Sequence[tuple[int, Sequence[int]]], refuse: int) -> None:
    """In socket(): for `family`, allow the given (type, protocols) and refuse the rest; A holds the family."""
    inner = Assembler()
    for kind, protocols in pairs:
        allowed = Assembler()
        allowed.load(_arg(2))
        for protocol in protocols:
            allowed.add(_JEQ, protocol, 0, 1)
            allowed.answer(ALLOW)
        allowed.answer(refuse)
        inner.load(_arg(1))
        inner.add(_AND, _TYPE_MASK)
        inner.add(_JEQ, kind, 0, len(allowed.code))
        inner.code.extend(allowed.code)
    inner.answer(refuse)
    body.add(_JEQ, family, 0, len(inner.code))
    body.code.extend(inner.code)


def _socket(reduced: bool, refuse: int) -> list[tuple[int, int, int, int]]:
    """Only local sockets, TCP, UDP (level A: it leads nowhere but to our DNS) and route netlink."""
    body = Assembler()
    body.load(_arg(0))
    if reduced:
        # A datagram can name any path as its receiver at each send, which nobody could check.
        _family(body, _AF_UNIX, [(_STREAM, (0,)), (5, (0,))], refuse)
    else:
        body.add(_JEQ, _AF_UNIX, 0, 1)
        body.answer(ALLOW)
    inet = [(_STREAM, (0, 6))] if reduced else [(_STREAM, (0, 6)), (_DGRAM, (0, 17))]
    _family(body, _AF_INET, inet, refuse)
    _family(body, _AF_INET6, inet, refuse)
    _family(body, _AF_NETLINK, [(_DGRAM, (0,)), (3, (0,))], refuse)
    body.answer(refuse)
    return body.code


def _sendto(watch: bool) -> list[tuple[int, int, int, int]]:
    """Refuses fast open; a datagram with an address is shown to the supervisor."""
    body = Assembler()
    body.load(_arg(3))
    body.add(_JSET, _MSG_FASTOPEN, 0, 1)
    body.answer(ERRNO | errno.EOPNOTSUPP)
    if watch:
        for offset in (_arg(4), _arg(4) + 4):
            body.load(offset)
            body.add(_JEQ, 0, 1, 0)
            body.answer(USER_NOTIF)
    body.answer(ALLOW)
    return body.code


def _socketpair(reduced: bool, refuse: int) -> list[tuple[int, int, int, int]]:
    body = Assembler()
    if reduced:
        body.load(_arg(1))
        body.add(_AND, _TYPE_MASK)
        body.add(_JEQ, _DGRAM, 0, 1)
        body.answer(refuse)
    body.answer(ALLOW)
    return body.code


def _aimed(place: int, otherwise: int) -> list[tuple[int, int, int, int]]:
    """Allows a call that names no other process (0); with a kind of target before it, only the plain kind."""
    body = Assembler()
    body.load(_arg(place))
    body.add(_JEQ, 0, 1, 0)
    body.answer(otherwise)
    if place:
        # PRIO_PROCESS is 0 and IOPRIO_WHO_PROCESS 1; a group or a user holds more than the caller.
        body.load(_arg(0))
        body.add(_JGT, 1, 0, 1)
        body.answer(otherwise)
    body.answer(ALLOW)
    return body.code


def program(architecture: str, *, reduced: bool = False, watch: Sequence[str] = ()) -> bytes:
    """The filter for `architecture`. `reduced` is level B (no network namespace); `watch` names calls that the
    supervisor is asked about (USER_NOTIF); with any, refused calls are shown to it too, so that they are recorded:
    it answers with the error, and without it the kernel answers ENOSYS.
    """
    refuse = USER_NOTIF if watch else ERRNO | errno.EPERM
    absent = USER_NOTIF if watch else ERRNO | errno.ENOSYS

    def nr(name: str) -> int | None:
        return syscalls.number(name, architecture)

    asm = Assembler()
    asm.load(_ARCH)
    asm.add(_JEQ, syscalls.AUDIT_ARCH[architecture], 1, 0)
    asm.answer(KILL_PROCESS)
    asm.load(_NR)
    if architecture == "x86_64":
        asm.add(_JGE, _X32_BIT, 0, 1)
        asm.answer(KILL_PROCESS)
    asm.add(_JGT, syscalls.LAST_KNOWN, 0, 1)
    asm.answer(ERRNO | errno.ENOSYS)
    for name in watch:
        asm.when_call(nr(name), _returns(USER_NOTIF))
    asm.when_call(nr("clone"), _refuse_flag(0, _CLONE_NEW, refuse))
    asm.when_call(nr("ioctl"), _ioctl(refuse))
    asm.when_call(nr("socket"), _socket(reduced, refuse))
    asm.when_call(nr("socketpair"), _socketpair(reduced, refuse))
    # TCP fast open connects without a connect() call.
    asm.when_call(nr("sendto"), _sendto(bool(watch)))
    asm.when_call(nr("sendmsg"), _refuse_flag(2, _MSG_FASTOPEN, ERRNO | errno.EOPNOTSUPP))
    asm.when_call(nr("sendmmsg"), _refuse_flag(3, _MSG_FASTOPEN, ERRNO | errno.EOPNOTSUPP))
    for name in (*syscalls.DENIED, *(syscalls.DENIED_AT_B if reduced else ())):
        asm.when_call(nr(name), _returns(refuse))
    for name, place in syscalls.AIMED.items() if reduced else ():
        asm.when_call(nr(name), _aimed(place, refuse))
    # Each new thread asks for clone3 first: the C library falls back to clone, whose flags can be read.
    asm.when_call(nr("clone3"), _returns(ERRNO | errno.ENOSYS))
    for name in syscalls.ABSENT:
        asm.when_call(nr(name), _returns(absent))
    asm.answer(ALLOW)
    return asm.bytes()


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def install(code: bytes, *, listener: bool) -> int:
    """Put the filter on this thread and all it starts; returns the notification descriptor, or -1 without one.

    Needs `no_new_privs`. Raises OSError.
    """
    buffer = ctypes.create_string_buffer(code, len(code))
    prog = _Program(len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _FLAG_NEW_LISTENER if listener else 0
    number = _SYS_SECCOMP[syscalls.machine()]
    result = int(libc.syscall(number, _SET_MODE_FILTER, flags, ctypes.byref(prog)))
    if result < 0:
        code_ = ctypes.get_errno()
        raise OSError(code_, f"seccomp: {os.strerror(code_)}")
    return result if listener else -1
