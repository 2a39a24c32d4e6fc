"""Level B's sockets: connect, bind and listen are carried out by the supervisor, on addresses it has read itself.

Without a network namespace the kernel's rules know ports but not addresses, and paths of Unix sockets not at
all. So the
caller's socket is fetched (`pidfd_getfd`), the address decided on is the address used, and nothing is
continued that
another thread could change meanwhile.
"""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import os
import socket
import stat
import struct
from collections.abc import Callable
from pathlib import Path

from allmend.box.notices import Call
from allmend.box.record import Record

_PIDFD_OPEN, _PIDFD_GETFD = 434, 438
_SO_SNDTIMEO_SECONDS = struct.pack("ll", 5, 0)
_NEVER = struct.pack("ll", 0, 0)


class Emulator:
    """Decides and carries out the sockets' calls of one box."""

    def __init__(
        self, record: Record, *, proxy_port: int, folders: list[str], sockets: str, admit: Callable[[int], None]
    ) -> None:
        self.record = record
        self.sockets = os.path.realpath(sockets)
        self.proxy_port = proxy_port
        self.folders = [os.path.realpath(folder) for folder in [*folders, sockets]]
        self.admit = admit
        """Tells the proxy that a connection from this local port is the box's."""
        self.listening: dict[int, int] = {}
        """Ports the box listens on, with the socket's inode."""

    def __call__(self, call: Call) -> None:
        """Answer one call."""
        try:
            sock = _fetch(call)
        except OSError as error:
            call.fail(error.errno or errno.EPERM)
            return
        try:
            getattr(self, f"_{call.name}")(call, sock)
            call.succeed()
        except OSError as error:
            call.fail(error.errno or errno.EPERM)
        finally:
            sock.close()

    def _connect(self, call: Call, sock: socket.socket) -> None:
        data = call.read(call.args[1], min(call.args[2], 128))[: min(call.args[2], 128)]
        family = int.from_bytes(data[:2], "little") if len(data) >= 2 else -1
        if family == socket.AF_UNIX and sock.family == socket.AF_UNIX:
            self._connect_path(call, sock, data[2:])
            return
        address, port = _inet(data)
        if address is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
            raise OSError(errno.EACCES, "refused")  # AF_UNSPEC would undo a checked bind
        shown = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
        plain = address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address
        if str(plain) == "127.0.0.1" and port == self.proxy_port:
            self._dial(sock, (str(address), port), admit=True)
        elif plain.is_loopback and self._is_own(port):
            self._dial(sock, (str(address), port), admit=False)
        else:
            detail = "this machine's loopback" if plain.is_loopback else "an address, not a permitted name"
            self.record.add("connect", shown, "denied", source="kernel", detail=detail)
            raise OSError(errno.ECONNREFUSED if plain.is_loopback else errno.ENETUNREACH, "refused")

    def _dial(self, sock: socket.socket, address: tuple[str, int], *, admit: bool) -> None:
        if admit:
            if sock.getsockname()[1] == 0:
                sock.bind(("::ffff:127.0.0.1" if sock.family == socket.AF_INET6 else "127.0.0.1", 0))
            self.admit(sock.getsockname()[1])
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SO_SNDTIMEO_SECONDS)
        try:
            _raw(sock, "connect", address)
        finally:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _NEVER)

    def _connect_path(self, call: Call, sock: socket.socket, data: bytes) -> None:
        path = data.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        if not path or data[:1] == b"\0":
            shown = "@" + data[1:].rstrip(b"\0").decode("utf-8", "replace")
            self.record.add("connect", f"unix:{shown}", "denied", source="kernel")
            raise OSError(errno.EACCES, "refused")
        path = caller_path(call, path)
        folder = next((f for f in self.folders if path.startswith(f"{f}/")), None)
        if folder is None:
            if not path.endswith("/nscd/socket"):
                self.record.add("connect", f"unix:{path}", "denied", source="kernel")
            raise OSError(errno.EACCES, "refused")
        fd = open_beneath(folder, path[len(folder) + 1 :])
        try:
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                raise OSError(errno.ECONNREFUSED, "no socket")
            _raw(sock, "connect", f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)

    def _bind(self, call: Call, sock: socket.socket) -> None:
        data = call.read(call.args[1], min(call.args[2], 128))[: min(call.args[2], 128)]
        if sock.family == socket.AF_UNIX:
            self._bind_path(call, sock, data[2:])
            return
        address, port = _inet(data)
        if address is None:
            if sock.family == socket.AF_NETLINK:
                _raw(sock, "bind", (0, 0))
                return
            raise OSError(errno.EACCES, "refused")
        if not address.is_loopback:
            # What asks for every address gets the loopback: nobody outside this machine is to reach it.
            if not address.is_unspecified:
                self.record.add("port", f"{address}:{port}", "denied", source="kernel")
                raise OSError(errno.EADDRNOTAVAIL, "refused")
            address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
        if 0 < port < 1024:
            raise OSError(errno.EACCES, "refused")
        _raw(sock, "bind", (str(address), port))

    def _bind_path(self, call: Call, sock: socket.socket, data: bytes) -> None:
        """Made by the supervisor in a folder of the box, so that no other name can be meant."""
        path = data.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        if not path:
            raise OSError(errno.EACCES, "refused")
        path = caller_path(call, path)
        folder = next((f for f in self.folders if path.startswith(f"{f}/")), None)
        if folder is None:
            self.record.add("write", path, "denied", source="kernel")
            raise OSError(errno.EACCES, "refused")
        parent, _, name = path[len(folder) + 1 :].rpartition("/")
        owner = os.stat(f"/proc/{call.pid}")  # noqa: PTH116
        if folder == self.sockets and not parent:
            # No link can be made there, so the path can be used as it is, and the socket keeps its name.
            _raw(sock, "bind", path)
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
            return
        fd = open_beneath(folder, parent) if parent else os.open(folder, os.O_PATH | os.O_CLOEXEC)
        try:
            place = f"/proc/self/fd/{fd}/{name}"
            _raw(sock, "bind", place)
            os.chown(place, owner.st_uid, owner.st_gid, follow_symlinks=False)
        finally:
            os.close(fd)

    def _listen(self, call: Call, sock: socket.socket) -> None:
        backlog = struct.unpack("=i", struct.pack("=I", call.args[1] & 0xFFFFFFFF))[0]
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            host, port = sock.getsockname()[:2]
            if port == 0:
                _raw(sock, "bind", ("127.0.0.1" if sock.family == socket.AF_INET else "::1", 0))
                host, port = sock.getsockname()[:2]
            if not ipaddress.ip_address(host).is_loopback:
                raise OSError(errno.EACCES, "refused")
            self.listening[port] = os.fstat(sock.fileno()).st_ino
            self.record.add("port", f"{host}:{port}", "allowed", source="kernel", detail="on this machine's loopback")
        sock.listen(max(0, min(backlog, 4096)))

    def own_ports(self) -> list[int]:
        """The ports that the box itself listens on now."""
        return [port for port in list(self.listening) if self._is_own(port)]

    def _is_own(self, port: int) -> bool:
        """Whether the box itself listens on `port` now (another program may have taken it over)."""
        inode = self.listening.get(port)
        if inode is None:
            return False
        for name in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port and int(fields[9]) == inode:
                    return True
        return False


def _raw(sock: socket.socket, how: str, address: object) -> None:
    """connect or bind with the socket's own blocking mode left as it is."""
    # Python's socket would wait for a socket it believes to be blocking; a fetched one is put as it was.
    getattr(sock, how)(address)


def _inet(data: bytes) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address | None, int]:
    family = int.from_bytes(data[:2], "little") if len(data) >= 2 else -1
    if family == socket.AF_INET and len(data) >= 8:
        return ipaddress.IPv4Address(data[4:8]), int.from_bytes(data[2:4], "big")
    if family == socket.AF_INET6 and len(data) >= 24:
        return ipaddress.IPv6Address(data[8:24]), int.from_bytes(data[2:4], "big")
    return None, 0


def caller_path(call: Call, path: str, folder: int | None = None) -> str:
    """The absolute path a caller means, relative to its working folder or to the folder it has open as `folder`."""
    if not path.startswith("/"):
        at = "cwd" if folder is None or folder < 0 else f"fd/{folder}"
        path = os.path.join(os.readlink(f"/proc/{call.pid}/{at}"), path)  # noqa: PTH115, PTH118
    return os.path.normpath(path)


def fetch(call: Call, number: int) -> int:
    """The caller's own descriptor `number`, in our hands. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = int(libc.syscall(_PIDFD_OPEN, call.leader(), 0))
    if pidfd < 0:
        raise OSError(ctypes.get_errno(), "pidfd_open")
    try:
        fd = int(libc.syscall(_PIDFD_GETFD, pidfd, number & 0xFFFFFFFF, 0))
        if fd < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
    finally:
        os.close(pidfd)
    if not call.valid():
        os.close(fd)
        raise OSError(errno.ESRCH, "the caller is gone")
    os.set_inheritable(fd, False)
    return fd


def _fetch(call: Call) -> socket.socket:
    """The caller's own socket, in our hands."""
    fd = fetch(call, call.args[0])
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise OSError(errno.ENOTSOCK, "not a socket")
        return socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        raise


def open_beneath(folder: str, inner: str) -> int:
    """A path descriptor beneath `folder`, no link at any step."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in [part for part in inner.split("/") if part]:
        try:
            deeper = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        finally:
            os.close(fd)
        fd = deeper
    return fd
