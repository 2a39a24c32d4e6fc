"""Level B's modes and times of files: carried out by the supervisor, beneath the box's own folders only.

Landlock does not know these calls: without mounts of its own a box run under the person's uid could change the mode of
every file the person has. So the path is read once, walked without following a link, and changed by descriptor.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import time

from allmend.box.emulate import caller_path, fetch, open_beneath
from allmend.box.notices import Call
from allmend.box.record import Record

_AT_FDCWD = -100
_UTIME_NOW, _UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
_PLAIN_BITS = 0o1777
"""No setuid and setgid: outside the box they would mean the person."""


class FileEmulator:
    """Decides and carries out changes of mode and times of one box."""

    def __init__(self, record: Record, folders: list[str]) -> None:
        self.record = record
        self.folders = [os.path.realpath(folder) for folder in folders]

    def __call__(self, call: Call) -> None:
        """Answer one call."""
        try:
            target = self._target(call)
        except OSError as error:
            call.fail(error.errno or errno.EPERM)
            return
        try:
            if not call.valid():
                return
            if call.name == "utimensat":
                _set_times(call, target)
            else:
                mode = call.args[2 if call.name in ("fchmodat", "fchmodat2") else 1]
                os.chmod(f"/proc/self/fd/{target}", mode & _PLAIN_BITS)  # noqa: PTH101
            call.succeed()
        except OSError as error:
            call.fail(error.errno or errno.EPERM)
        finally:
            os.close(target)

    def _target(self, call: Call) -> int:
        """A descriptor of the file that is meant; raises OSError where it is none of the box's."""
        if call.name == "fchmod" or (call.name == "utimensat" and call.args[1] == 0):
            fd = fetch(call, call.args[0])
            path = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
            if self._folder(path) is not None:
                return fd
            os.close(fd)
        else:
            by_folder = call.name != "chmod"
            folder = _signed(call.args[0]) if by_folder else _AT_FDCWD
            text = call.text(call.args[1 if by_folder else 0])
            if not text:
                raise OSError(errno.ENOENT, "no path")
            path = caller_path(call, text, folder)
            inside = self._folder(path)
            if inside is not None:
                fd = open_beneath(inside, path[len(inside) + 1 :])
                if not stat.S_ISLNK(os.fstat(fd).st_mode):
                    return fd
                os.close(fd)
                raise OSError(errno.EPERM, "a link")
        self.record.add("write", path, "denied", source="kernel", detail=f"by {call.name}")
        raise OSError(errno.EACCES, "refused")

    def _folder(self, path: str) -> str | None:
        return next((folder for folder in self.folders if path == folder or path.startswith(f"{folder}/")), None)


def _signed(value: int) -> int:
    return int(struct.unpack("=i", struct.pack("=I", value & 0xFFFFFFFF))[0])


def _set_times(call: Call, target: int) -> None:
    place = f"/proc/self/fd/{target}"
    if call.args[2] == 0:
        os.utime(place)
        return
    data = call.read(call.args[2], 32)
    if len(data) < 32:
        raise OSError(errno.EFAULT, "unreadable times")
    seconds = struct.unpack("=4q", data[:32])
    now = os.stat(place)  # noqa: PTH116
    kept = (now.st_atime_ns, now.st_mtime_ns)
    wanted = []
    for which in (0, 1):
        whole, part = seconds[2 * which : 2 * which + 2]
        if part == _UTIME_OMIT:
            wanted.append(kept[which])
        elif part == _UTIME_NOW:
            wanted.append(time.time_ns())
        elif 0 <= part < 10**9 and abs(whole) < 2**33:
            wanted.append(whole * 10**9 + part)
        else:
            raise OSError(errno.EINVAL, "no time")
    os.utime(place, ns=(wanted[0], wanted[1]))
