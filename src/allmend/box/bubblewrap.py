"""Level A's outer wall: the arguments of bwrap.

As root no user namespace is made: inside one, host uid 0 would stay what it is outside (`/proc/sys` would be
writable).
bwrap keeps only the capabilities the launcher needs in order to become an unused uid. As an ordinary user the
launcher
gets a user namespace with uid 0 and then makes a second one of its own.
"""

from __future__ import annotations

from pathlib import Path

from allmend.box.view import SYSTEM_LINKS, View

_LAUNCHER_CAPABILITIES = ("CAP_NET_BIND_SERVICE", "CAP_SETPCAP", "CAP_SETUID", "CAP_SETGID")
_USER_CAPABILITIES = ("CAP_SYS_ADMIN", "CAP_SETFCAP", "CAP_SYS_RESOURCE")


def arguments(
    bwrap: str, view: View, *, root: bool, chdir: str, tmpfs_bytes: int | None, overlays: dict[str, str]
) -> list[str]:
    """bwrap's command line up to `--`. `overlays` are generated files: target to source."""
    command = [bwrap]
    command += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    command += ["--hostname", "box", "--die-with-parent", "--new-session", "--clearenv"]
    if not root:
        command += ["--unshare-user", "--uid", "0", "--gid", "0"]
    command += ["--cap-drop", "ALL"]
    for capability in (*_LAUNCHER_CAPABILITIES, *(() if root else _USER_CAPABILITIES)):
        command += ["--cap-add", capability]
    command += ["--dev", "/dev", "--proc", "/proc"]
    made = {"/", "/dev", "/proc"}
    for name in SYSTEM_LINKS:
        path = Path("/", name)
        if path.is_symlink():
            command += ["--symlink", str(path.readlink()), str(path)]
    sized = ["--size", str(tmpfs_bytes)] if tmpfs_bytes else []
    for target in (*view.temporary, "/dev/shm"):
        command += _parents(target, made)
        command += [*sized, "--perms", "1777", "--tmpfs", target]
        made.add(target)
    # Outer folders first, so that an inner mount is not covered by an outer one.
    for entry in sorted(view.shown, key=lambda shown: shown.target.count("/")):
        command += _parents(entry.target, made)
        bind = "--bind" if entry.right in ("work", "sockets") else "--ro-bind"
        command += [bind, entry.source, entry.target]
        if Path(entry.source).is_dir():
            made.add(entry.target)
    for name, target in view.links.items():
        command += _parents(name, made)
        command += ["--symlink", target, name]
    for device in view.devices:
        command += ["--dev-bind-try", device, device]
    for target, source in overlays.items():
        command += _parents(target, made)
        command += ["--ro-bind", source, target]
    return [*command, "--remount-ro", "/", "--chdir", chdir]


def _parents(target: str, made: set[str]) -> list[str]:
    """Each missing parent, made 0755: bwrap's own implicit ones are 0700, and the run's uid could not pass."""
    command: list[str] = []
    for parent in reversed(Path(target).parents):
        text = str(parent)
        if text in made:
            continue
        command += ["--perms", "0755", "--dir", text]
        made.add(text)
    return command
