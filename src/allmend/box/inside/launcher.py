"""Stage one inside the box: give up every power in the one order that works, then become the kernel.

Started as `python -I -S -c "…; from inside.launcher import main; main(FD)"` with one end of a SEQPACKET socket
pair,
over which the supervisor sends an order and receives the listening sockets and the seccomp notification
descriptor.
Any step that fails is reported and ends the process: nothing runs half-confined.
"""

from __future__ import annotations

# Every start pays for these: `socket`, `json`, `signal`, `typing` would double the time before the kernel begins.
import _socket
import ctypes
import marshal
import os
import resource
import struct
import sys

from . import landlock, seccomp, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _AMBIENT_CLEAR = 1, 24, 38, 47, 4
_SIGKILL = 9
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_CAPSET = {"x86_64": 126, "aarch64": 91}
_RIGHTS = {
    "list": landlock.LIST,
    "read": landlock.READ,
    "work": landlock.WORK,
    "device": landlock.DEVICE,
    "sockets": landlock.SOCKETS,
}

PROXY, HTTP, HTTPS, DNS = ("127.0.0.1", 3128), ("0.0.0.0", 80), ("0.0.0.0", 443), ("127.0.0.1", 53)


def main(fd: int) -> None:
    """Carry out the order that waits on descriptor `fd`; does not return."""
    os.set_inheritable(fd, False)
    control = _socket.socket(fileno=fd)
    step = "reading the order"
    try:
        order = marshal.loads(control.recv(1 << 20))
        for name, action in _STEPS:
            step = name
            action(order, control)
        step = "starting the program"
        os.chdir(order["cwd"])
        os.execve(order["argv"][0], order["argv"], order["environment"])
    except BaseException as error:
        try:
            control.send(f"failed {step}: {type(error).__name__}: {error}"[:4000].encode("utf-8", "replace"))
        finally:
            os._exit(97)


def send_with(control: _socket.socket, text: str, fds: list[int]) -> None:
    """Send a line with descriptors."""
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
    control.sendmsg([text.encode()], rights)


def _die_with_parent(order: dict[str, Any], control: _socket.socket) -> None:
    """Level B. After the change of uid, which would clear it."""
    if order["keeper"]:
        _prctl(_PR_SET_PDEATHSIG, _SIGKILL)
        if os.getppid() == 1:
            raise ChildProcessError("the keeper has gone")


def _listen(order: dict[str, Any], control: _socket.socket) -> None:
    """Open the box's only ways out in the empty network namespace and hand them to the supervisor."""
    if not order["listen"]:
        return
    names: list[str] = []
    fds: list[int] = []
    for name, address, kind in (
        ("proxy", PROXY, _socket.SOCK_STREAM),
        ("http", HTTP, _socket.SOCK_STREAM),
        ("https", HTTPS, _socket.SOCK_STREAM),
        ("dns", DNS, _socket.SOCK_DGRAM),
    ):
        sock = _socket.socket(_socket.AF_INET, kind)
        try:
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            sock.bind(address)
            if kind == _socket.SOCK_STREAM:
                sock.listen(128)
        except PermissionError:
            # Where AppArmor strips the capability, low ports cannot be had and only the proxy remains.
            sock.close()
            continue
        names.append(name)
        fds.append(sock.detach())
    send_with(control, " ".join(["listeners", *names]), fds)
    for fd in fds:
        os.close(fd)
    control.recv(16)


def _limits(order: dict[str, Any], control: _socket.socket) -> None:
    for name, value in order["rlimits"].items():
        which = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(which)[1]
        wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (wanted, wanted))
    if order["nice"]:
        os.nice(order["nice"])
    if order["affinity"]:
        os.sched_setaffinity(0, order["affinity"])


def _own_user_namespace(order: dict[str, Any], control: _socket.socket) -> None:
    """As an ordinary user: back from the mapped uid 0 to the person's own uid."""
    if not order["map_to"]:
        return
    uid, gid = order["map_to"]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"unshare: {os.strerror(code)}")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} 0 1"), ("gid_map", f"{gid} 0 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _drop_powers(order: dict[str, Any], control: _socket.socket) -> None:
    """The bounding set first (it needs SETPCAP), then the uid, then what is left."""
    libc = ctypes.CDLL(None, use_errno=True)
    if order["drop_bounding"]:
        for capability in range(64):
            if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
                break
    if order["become"]:
        uid, gid = order["become"]
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    _prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if libc.syscall(_CAPSET[syscalls.machine()], header, nothing) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"capset: {os.strerror(code)}")
    if order["become"] and 0 in (*os.getresuid(), *os.getresgid()):
        raise PermissionError("still root after giving it up")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    os.umask(0o022)


def _landlock(order: dict[str, Any], control: _socket.socket) -> None:
    rules = [(path, _RIGHTS[kind]) for path, kind in order["landlock"]]
    landlock.restrict(rules, connect_ports=order["connect_ports"])


def _seccomp(order: dict[str, Any], control: _socket.socket) -> None:
    watch = order["watch"]
    code = seccomp.program(syscalls.machine(), reduced=order["reduced"], watch=watch)
    listener = seccomp.install(code, listener=bool(watch))
    if listener >= 0:
        send_with(control, "notify", [listener])
        os.close(listener)
        control.recv(16)


def _dialer(order: dict[str, Any], control: _socket.socket) -> None:
    """A small process that opens connections to published ports for the supervisor, from inside."""
    fd = order["dialer_fd"]
    if fd is None:
        return
    if os.fork() != 0:
        os.close(fd)
        return
    control.close()
    try:
        publish = order["publish"]
        _dial(_socket.socket(fileno=fd), None if publish is None else set(publish))
    finally:
        os._exit(0)


def _dial(requests: _socket.socket, ports: set[int] | None) -> None:
    """Answer `PORT` with a connection to it, `list` with the ports that anything inside listens on."""
    while True:
        text = requests.recv(16)
        if not text:
            return
        if text == b"list":
            requests.send(b"listening " + b" ".join(b"%d" % port for port in _listening())[:3000])
            continue
        port = int(text)
        sock = _connected(port) if ports is None or port in ports else None
        if sock is None:
            send_with(requests, f"refused {port}", [])
        else:
            send_with(requests, f"connected {port}", [sock.fileno()])
            sock.close()


def _connected(port: int) -> _socket.socket | None:
    for family, host in ((_socket.AF_INET, "127.0.0.1"), (_socket.AF_INET6, "::1")):
        sock = _socket.socket(family, _socket.SOCK_STREAM)
        # A server with a full queue would hold up everybody else's connections.
        sock.settimeout(2.0)
        try:
            sock.connect((host, port))
        except OSError:
            sock.close()
            continue
        sock.setblocking(True)
        return sock
    return None


def _listening() -> list[int]:
    found = set()
    for name in ("tcp", "tcp6"):
        try:
            with open(f"/proc/self/net/{name}") as file:
                rows = file.read().split("\n")[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if len(fields) > 3 and fields[3] == "0A":
                found.add(int(fields[1].rpartition(":")[2], 16))
    return sorted(found)


def _ready(order: dict[str, Any], control: _socket.socket) -> None:
    control.send(b"ready")


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl {option}: {os.strerror(code)}")


_STEPS = (
    ("opening the ways out", _listen),
    ("setting limits", _limits),
    ("making its own user namespace", _own_user_namespace),
    ("dropping privileges", _drop_powers),
    ("tying its life to the keeper's", _die_with_parent),
    ("Landlock", _landlock),
    ("seccomp", _seccomp),
    ("publishing ports", _dialer),
    ("reporting", _ready),
)

if __name__ == "__main__":
    main(int(sys.argv[1]))
