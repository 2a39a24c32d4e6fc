"""Landlock by ctypes: the file, TCP and scope rules that the kernel checks beneath the mounts, or instead of them.

Constants from `include/uapi/linux/landlock.h`. Every file right that the running ABI knows is handled, so what no
rule grants is refused.
"""

from __future__ import annotations

import ctypes
import os
import struct

TYPE_CHECKING = False  # importing typing would cost each start some milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterable

# The same numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULE_PATH, _RULE_PORT = 1, 2

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE = 1 << 4, 1 << 5
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (1 << n for n in range(6, 13))
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
RESOLVE_UNIX = 1 << 16

READ = EXECUTE | READ_FILE | READ_DIR
_CHANGE = WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM | REFER
WORK = READ | _CHANGE | TRUNCATE | RESOLVE_UNIX
"""A folder to work in: everything but device nodes."""
LIST = READ_DIR
"""Listing folders: at level A everything beneath the root was put there to be seen."""
DEVICE = READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV | READ_DIR
SOCKETS = READ_DIR | MAKE_SOCK | REMOVE_FILE | RESOLVE_UNIX
"""The folder of the kernel's sockets: nothing but sockets can be made there, no link in particular."""

_FILE_ONLY = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
CONNECT_TCP = 1 << 1
SCOPE_ABSTRACT, SCOPE_SIGNAL = 1, 2

_HANDLED_BY_ABI = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15, 9: 1 << 16}


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def abi() -> int:
    """The kernel's Landlock ABI, 0 where it is absent or switched off."""
    try:
        return _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    except OSError:
        return 0


def handled(version: int) -> int:
    """Every file right that ABI `version` knows."""
    return sum(bits for since, bits in _HANDLED_BY_ABI.items() if since <= version)


def restrict(rules: Iterable[tuple[str, int]], *, connect_ports: Iterable[int] | None = None) -> int:
    """Hold this thread, and all it starts, to `rules` (path, rights); returns the ABI.

    `connect_ports` None leaves TCP alone (a network namespace does that work); otherwise only these ports can be
    connected to. Abstract sockets and signals are scoped from ABI 6 on. Raises OSError.
    """
    version = abi()
    if version < 1:
        raise OSError(38, "this kernel has no Landlock")
    files = handled(version)
    net = CONNECT_TCP if connect_ports is not None and version >= 4 else 0
    scoped = SCOPE_ABSTRACT | SCOPE_SIGNAL if version >= 6 else 0
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    attributes = struct.pack("=QQQ", files, net, scoped)
    ruleset = _call(_CREATE_RULESET, ctypes.c_char_p(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for path, rights in rules:
            _add_path(ruleset, path, rights & files)
        for port in connect_ports or () if net else ():
            rule = struct.pack("=QQ", CONNECT_TCP, port)
            _call(_ADD_RULE, ruleset, _RULE_PORT, ctypes.c_char_p(rule), ctypes.c_uint32(0))
        _call(_RESTRICT_SELF, ruleset, ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
    return version


def _add_path(ruleset: int, path: str, rights: int) -> None:
    """Add a rule beneath `path`; a path that is not there grants nothing and is passed over."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return
    try:
        if not os.path.isdir(f"/proc/self/fd/{fd}"):
            rights &= _FILE_ONLY
        if rights:
            rule = struct.pack("=Qi", rights, fd)
            _call(_ADD_RULE, ruleset, _RULE_PATH, ctypes.c_char_p(rule), ctypes.c_uint32(0))
    finally:
        os.close(fd)
