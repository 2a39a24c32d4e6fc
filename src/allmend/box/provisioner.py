"""A kernel provisioner named `allmend`: nbclient, papermill, JupyterLab and anything else that starts kernels
through jupyter_client can have them boxed, by a kernel spec and nothing more.

    python -m allmend.box.provisioner --user            # adds the kernel "Python 3 (boxed)"
    python -m allmend.box.provisioner FOLDER --permissions FILE
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jupyter_client.provisioning import KernelProvisionerBase
from traitlets import Unicode

from allmend.box import environment, levels, owner
from allmend.box.box import Box
from allmend.box.settings import Settings
from allmend.nouns.permissions import Permissions
from allmend.nouns.receipt import Receipt

KERNEL_NAME = "allmend"


class BoxProvisioner(KernelProvisionerBase):  # type: ignore[misc]
    """Starts each kernel in a box of its own."""

    permissions = Unicode("", help="The permissions file (TOML); empty allows nothing.").tag(config=True)
    receipt = Unicode("", help="Where the receipt is written (JSON) when the kernel ends.").tag(config=True)
    level = Unicode("", help="A or B; empty takes the best there is.").tag(config=True)

    box: Box | None = None
    started = ""

    @property
    def has_process(self) -> bool:
        """Whether there is a kernel."""
        return self.box is not None

    async def poll(self) -> int | None:
        """None while the kernel runs."""
        return None if self.box is not None and self.box.alive else 0

    async def wait(self) -> int | None:
        """Wait until it ends."""
        while self.box is not None and self.box.alive:
            await asyncio.sleep(0.05)
        return 0

    async def send_signal(self, signum: int) -> None:
        """Interrupts go as messages (the kernel spec says so); other signals end the kernel."""
        if self.box is not None and signum not in (0, signal.SIGINT):
            await asyncio.to_thread(self.box.stop, "interrupted", f"signal {signum}")

    async def kill(self, restart: bool = False) -> None:
        """End it."""
        if self.box is not None:
            await asyncio.to_thread(self.box.stop, "finished", "its client ended it")

    async def shutdown_requested(self, restart: bool = False) -> None:
        """The client is about to ask the kernel to end itself: that it then ends is no death."""
        self._asked_to_end = True

    async def terminate(self, restart: bool = False) -> None:
        """End it."""
        await self.kill(restart)

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Read the permissions; raises `InputError` for a broken file."""
        path = Path(self.permissions).expanduser() if self.permissions else None
        granted = Permissions.from_toml(path.read_text(), where=str(path)) if path else Permissions()
        level, why = levels.choose(self.level or None)
        folder = Path(kwargs.get("cwd") or (path.parent if path else Path.cwd()))
        self._settings = Settings(
            permissions=granted,
            environment=environment.of(),
            folder=folder,
            level=level,
            why=why,
            operator=owner.read(),
        )
        kwargs["cmd"] = ["allmend"]
        return await super().pre_launch(**kwargs)  # type: ignore[no-any-return]

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> dict[str, Any]:
        """Start the box; returns how to reach the kernel in it."""
        await self._close()
        self._asked_to_end = False
        self.box = Box(self._settings)
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            await asyncio.to_thread(self.box.start)
        except Exception:
            self.box = None  # It took itself away; there is nothing to end, and no receipt.
            raise
        self.connection_info = {**self.box.connection, "key": self.box.connection["key"].encode()}
        return self.connection_info

    async def cleanup(self, restart: bool = False) -> None:
        """Write the receipt and take everything away."""
        await self._close()

    async def _close(self) -> None:
        box, self.box = self.box, None
        if box is None:
            return
        if box.ended is None:
            await asyncio.to_thread(box.stop, "finished", "its client ended it")
        await asyncio.to_thread(box.finish)
        if self.receipt:
            Path(self.receipt).write_text(self._receipt(box).to_json() + "\n")
        await asyncio.to_thread(box.close)

    def _receipt(self, box: Box) -> Receipt:
        settings = self._settings
        events = box.record.events()
        ended, why = box.ended or "unfinished", box.ended_why
        if ended == "kernel-died" and self._asked_to_end:
            ended, why = "finished", "its client ended it"
        return Receipt(
            notebook="a kernel started through jupyter_client",
            sha256="",
            started=self.started,
            ended=ended,
            ended_why=why,
            enforcement=box.enforcement(),
            profile=settings.environment.profile,
            python=settings.environment.version,
            permissions=settings.permissions.to_dict(),
            operator_grants=settings.operator.grants,
            limits=box.limits.records,
            events=events,
            events_dropped=box.record.dropped,
            hosts=box.record.hosts(),
            secrets_used=sorted({e.target for e in events if e.kind == "secret" and e.verdict == "allowed"}),
            peak_memory_bytes=box.peak_memory,
            not_recorded=[
                "which cell did what: the client runs the cells",
                "files written: the working folder is gone",
            ],
        )


def write_kernelspec(folder: Path, *, permissions: str = "", receipt: str = "") -> Path:
    """Write the kernel spec `allmend` into a folder of kernels; returns its own folder."""
    config = {name: value for name, value in (("permissions", permissions), ("receipt", receipt)) if value}
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3 (boxed)",
        "language": "python",
        "interrupt_mode": "message",
        "metadata": {"kernel_provisioner": {"provisioner_name": "allmend", "config": config}},
    }
    place = folder / KERNEL_NAME
    place.mkdir(parents=True, exist_ok=True)
    (place / "kernel.json").write_text(json.dumps(spec, indent=1) + "\n")
    return place


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description="Add a kernel that Jupyter starts in a box.")
    parser.add_argument("folder", nargs="?", type=Path, help="a folder of kernels (…/jupyter/kernels)")
    parser.add_argument("--user", action="store_true", help="this user's own kernels")
    parser.add_argument("--permissions", default="", help="a permissions file (TOML)")
    parser.add_argument("--receipt", default="", help="where the receipt is written")
    given = parser.parse_args()
    if given.user:
        from jupyter_core.paths import jupyter_data_dir

        given.folder = Path(jupyter_data_dir()) / "kernels"
    if given.folder is None:
        parser.error("name a folder, or --user")
    sys.stdout.write(f"{write_kernelspec(given.folder, permissions=given.permissions, receipt=given.receipt)}\n")


if __name__ == "__main__":
    main()
