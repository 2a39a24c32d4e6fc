"""What a box is furnished with: generated files, the view, the environment variables, the launcher's order."""

from __future__ import annotations

import json
import os
import py_compile
import secrets
import shutil
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import cache_from_source
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allmend.box import environment, view
from allmend.box.inside import seccomp
from allmend.box.places import Places
from allmend.box.scratch import Scratch
from allmend.errors import DoesNotFit, Unavailable

if TYPE_CHECKING:
    from allmend.box.limits import Settled
    from allmend.box.probe import Machine
    from allmend.box.settings import Settings

_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
INSIDE = Path(__file__).parent / "inside"
_CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
_APT_FILES = (
    "/var/lib/dpkg/status",
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d",
    "/etc/apt/trusted.gpg.d",
    "/etc/apt/keyrings",
)
_NAMES_AT_B = ("/etc/hosts", "/etc/nsswitch.conf", "/etc/passwd", "/etc/group")
"""World-readable files that programs look accounts up in; at level A generated ones stand in their place."""


@lru_cache(maxsize=1)
def compile_inside() -> None:
    """Keep the bytecode of what runs inside: shown read-only, it would be compiled anew at every start of every Python.

    Done once for each version of the sources, where they may be written beside; installing from a wheel does it too.
    """
    for source in (*INSIDE.glob("*.py"), *INSIDE.glob("site/**/*.py")):
        compiled = Path(cache_from_source(str(source)))
        try:
            if not compiled.exists() or compiled.stat().st_mtime < source.stat().st_mtime:
                py_compile.compile(str(source), quiet=2)
        except OSError:
            return


@dataclass
class Interior:
    """The furnishing of one box."""

    settings: Settings
    machine: Machine
    scratch: Scratch
    places: Places
    uid: int
    gid: int
    limits: Settled
    connection: dict[str, Any] = field(default_factory=dict)
    overlays: dict[str, str] = field(default_factory=dict)
    """Generated files: target to source."""
    drive_copy: Path | None = None
    """The copy of a Drive folder that may be written; taken back by the export's rules."""

    @property
    def root(self) -> bool:
        """Whether the run was started as root."""
        return self.machine.root

    @property
    def inside(self) -> str:
        """The stand-ins' folder, as code inside sees it."""
        return f"{self.places.run}/inside" if self.places.separate else str(INSIDE)

    def furnish(self) -> view.View:
        """Write everything into the scratch folder; returns the view. Raises `Unavailable`, `NotFound`,
        `Refused`."""
        compile_inside()
        chosen, folder = self.settings.environment, self.scratch.layer
        if not self.places.separate and self.root:
            closed = environment.unreachable_for(chosen, self.uid, self.gid)
            if closed is not None:
                raise Unavailable(
                    f"at level B as root the notebook runs under a uid of its own, which cannot enter {closed}",
                    hint="Run it as an ordinary user, with an interpreter outside that folder, or get level A.",
                )
        environment.make_layer(chosen, folder, self.places.layer, self.inside, self.settings.below)
        environment.put_programs(folder, self.places.layer, self.inside)
        self.connection = self._new_connection()
        self._write_files()
        shown = self._view()
        if self.root:
            self.scratch.give_to(self.uid, self.gid)
        return shown

    def furnish_plainly(self) -> view.View:
        """Level D: the connection file, and a layer so that installs do not reach what is shared."""
        environment.make_layer(
            self.settings.environment, self.scratch.layer, self.places.layer, "", self.settings.below
        )
        self.connection = self._new_connection()
        file = self.scratch.etc / "connection.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps(self.connection))
        return view.View()

    def _new_connection(self) -> dict[str, Any]:
        return {
            "transport": "ipc",
            "ip": str(self.scratch.ipc / "k"),
            "key": secrets.token_hex(32),
            "signature_scheme": "hmac-sha256",
            "kernel_name": "python3",
            **{f"{name}_port": place for place, name in enumerate(_CHANNELS, 1)},
        }

    def _write_files(self) -> None:
        etc, uid, gid, home = self.scratch.etc, self.uid, self.gid, self.places.home
        ours = {
            "connection.json": json.dumps({**self.connection, "ip": f"{self.places.ipc}/k"}),
            "pip.conf": self.settings.operator.pip_conf(),
        }
        system = {
            "passwd": f"user:x:{uid}:{gid}:user:{home}:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n",
            "group": f"user:x:{gid}:\nnogroup:x:65534:\n",
            "hosts": "127.0.0.1 localhost box\n::1 localhost\n",
            "resolv.conf": "nameserver 127.0.0.1\noptions timeout:5 attempts:1\n",
            "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        }
        for name, text in {**ours, **(system if self.places.separate else {})}.items():
            (etc / name).write_text(text)
            self.overlays[f"{self.places.run}/{name}" if name in ours else f"/etc/{name}"] = str(etc / name)
        if self.places.separate:
            self.overlays |= self.settings.operator.overlays
        # The connection file holds the key of the kernel's sockets: only the run itself may read it.
        (etc / "connection.json").chmod(0o600)
        if self.root:
            os.chown(etc / "connection.json", uid, gid)

    def _view(self) -> view.View:
        settings, places, scratch = self.settings, self.places, self.scratch
        shown = view.system()
        for root in (*settings.environment.roots, *settings.below, *settings.operator.folders):
            shown.show(root)
        for path in _APT_FILES if places.separate else (*_APT_FILES, *_NAMES_AT_B):
            if Path(path).exists():
                shown.show(path)
        shown.show(INSIDE, self.inside)
        if settings.uv is not None:
            shown.show(settings.uv)
            (scratch.layer / "bin" / "uv").symlink_to(settings.uv)
        for upload in settings.uploads:
            self._bring(shown, upload.resolve(strict=True), f"{places.uploads}/{upload.name}")
        for source, target in places.reads(settings.permissions, settings.folder):
            self._bring(shown, Path(source), target)
        shown.show(scratch.content, places.content, "work")
        shown.show(scratch.layer, places.layer, "work")
        shown.show(scratch.ipc, places.ipc, "sockets")
        if settings.permissions.drive:
            self._drive(shown)
        if places.separate:
            shown.temporary += ["/tmp", places.home]
            # Kaggle's names: its working folder, and data sets as a folder `input` beside the notebook.
            shown.links |= {"/kaggle/working": places.content, "/kaggle/input": f"{places.content}/input"}
        else:
            shown.show(scratch.home, places.home, "work")
            shown.show(scratch.etc, places.run)
            shown.device_names = tuple(name for name in view.DEVICES if name not in ("ptmx", "pts", "shm"))
        for number in settings.permissions.devices.gpus:
            shown.devices += ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", f"/dev/nvidia{number}"]
        return shown

    def _bring(self, shown: view.View, source: Path, target: str) -> None:
        """Show a granted path read-only; copied first where the run's own uid could not read the original."""
        if self.root and not _open_to_others(source):
            copy = self.scratch.path / "reads" / str(len(shown.shown))
            self._copy(source, copy)
            source = copy
        shown.show(source, target if self.places.separate else None)
        self._make_parents(target)
        if not self.places.separate:
            place = Path(target)
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                place.symlink_to(source)

    def _drive(self, shown: view.View) -> None:
        drive = self.settings.permissions.drive
        assert drive is not None
        folder = (self.settings.folder / Path(drive.folder).expanduser()).resolve(strict=True)
        if not drive.write:
            self._bring(shown, folder, self.places.drive)
            return
        # What is written goes into a copy first, so that it comes out by the same rules as other outputs.
        self.drive_copy = self.scratch.path / "drive"
        self._copy(folder, self.drive_copy)
        self._make_parents(self.places.drive)
        if self.places.separate:
            shown.show(self.drive_copy, self.places.drive, "work")
        else:
            shown.show(self.drive_copy, None, "work")
            Path(self.places.drive).parent.mkdir(parents=True, exist_ok=True)
            Path(self.places.drive).symlink_to(self.drive_copy)

    def _make_parents(self, target: str) -> None:
        """The folders around a place inside the working folder, so that they are the run's own."""
        inner = Path(target)
        if inner.is_relative_to(self.places.content):
            (self.scratch.content / inner.relative_to(self.places.content)).parent.mkdir(parents=True, exist_ok=True)

    def _copy(self, source: Path, target: Path) -> None:
        size = sum(path.lstat().st_size for path in source.rglob("*")) if source.is_dir() else source.stat().st_size
        if size > self.limits.disk:
            raise DoesNotFit(f"{source.name} is larger than the disk limit and would have to be copied into the box")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copy2(source, target)
        for path in [target, *(target.rglob("*") if target.is_dir() else ())]:
            if self.root:
                os.lchown(path, self.uid, self.gid)

    def order(
        self, *, reports: int, dialer: int | None, shown: view.View, proxy: int | None, keeper: bool
    ) -> dict[str, Any]:
        """The launcher's order. `proxy` is the proxy's port at level B."""
        places, full = self.places, self.places.separate
        command = [f"{places.layer}/bin/python", "-m", "ipykernel_launcher", "-f", f"{places.run}/connection.json"]
        watch = list(dict.fromkeys([*seccomp.WATCHED, *(() if full else seccomp.EMULATED)]))
        if self.settings.trace:
            watch += seccomp.WATCHED_FILES
        rules: list[list[str]] = [["/", "list"]] if full else []
        rules += [list(rule) for rule in shown.rules()]
        return {
            "keeper": keeper,
            "listen": full,
            "rlimits": self.limits.rlimits,
            "nice": 0,
            "affinity": self.limits.affinity,
            "map_to": [self.uid, self.gid] if full and not self.root else None,
            "become": [self.uid, self.gid] if self.root else None,
            "drop_bounding": True,
            "landlock": [*rules, *([path, "read"] for path in self.overlays)],
            "connect_ports": None if full else [],
            "reduced": not full,
            "watch": watch,
            "dialer_fd": dialer,
            # Only the supervisor asks the dialer; what it may ask for is narrowed where only ports were granted.
            "publish": None if self.settings.web else list(self.settings.permissions.network.publish),
            "argv": [*command, *([] if full else ["--IPKernelApp.exec_lines=import plain_system"])],
            "cwd": places.content,
            "environment": {
                **self._variables(proxy or 3128),
                **self._visible(shown),
                "ALLMEND_RECORD": str(reports),
            },
        }

    def _visible(self, shown: view.View) -> dict[str, str]:
        folders = [f"{entry.target}/" for entry in shown.shown] + [f"{path}/" for path in shown.temporary]
        devices = [f"/dev/{name}" for name in shown.device_names]
        return {"ALLMEND_VISIBLE": ":".join([*folders, *devices, "/proc/self/"])}

    @property
    def search_path(self) -> str:
        """PATH inside."""
        apt = f"{self.places.layer}/apt/root/usr"
        return f"{self.places.layer}/bin:{apt}/bin:{_PATH}:{apt}/sbin:{apt}/games"

    def _variables(self, proxy_port: int) -> dict[str, str]:
        """The kernel's whole environment; nothing of ours is passed on."""
        places = self.places
        proxy = f"http://127.0.0.1:{proxy_port}"
        apt = f"{places.layer}/apt/root/usr"
        found = {
            "PATH": self.search_path,
            "LD_LIBRARY_PATH": f"{apt}/lib/{self.machine.architecture}-linux-gnu:{apt}/lib",
            "HOME": places.home,
            "USER": "user",
            "LANG": "C.UTF-8",
            "TERM": "xterm-color",
            "PYTHONPATH": f"{self.inside}/site",
            "VIRTUAL_ENV": places.layer,
            "TMPDIR": places.temporary,
            "IPYTHONDIR": f"{places.home}/.ipython",
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "NO_PROXY": "localhost,127.0.0.1",
            "no_proxy": "localhost,127.0.0.1",
            "ALLMEND_PROXY": proxy,
            "ALLMEND_CONTENT": places.content,
        }
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            found[name] = proxy
        gpus = self.settings.permissions.devices.gpus
        found["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus)) if gpus else ""
        for name, secret in self.settings.permissions.secrets.items():
            value = os.environ.get(name)
            if secret.environment and value is not None:
                found[name] = value
        found |= self.settings.operator.variables(places.run, places.layer)
        if self.settings.colab:
            found |= {
                "ALLMEND_COLAB": "1",
                "COLAB_RELEASE_TAG": "release-colab-box",
                "COLAB_GPU": "1" if gpus else "",
                "COLAB_BACKEND_VERSION": "box",
            }
        return found


def _open_to_others(path: Path) -> bool:
    """Whether everything beneath `path` can be read by any user."""
    for parent, folders, files in os.walk(path):
        for name in (*folders, *files, ""):
            status = os.lstat(Path(parent, name))
            wanted = 0o5 if name in folders or not name else 0o4
            if status.st_mode & 0o170000 != 0o120000 and status.st_mode & wanted != wanted:
                return False
    return path.is_dir() or path.stat().st_mode & 0o4 != 0
