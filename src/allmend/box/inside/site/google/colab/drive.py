"""`drive.mount` shows the one folder that was granted; there is no Google Drive inside the box."""

import os

from google.colab import _box


def mount(mountpoint: str, force_remount: bool = False, timeout_ms: int = 120000, readonly: bool = False) -> None:
    """Make the granted folder appear at `mountpoint`/MyDrive."""
    try:
        answer = _box.ask("drive", mountpoint=str(mountpoint))
    except _box.NotPermitted as error:
        raise ValueError(f"mount failed: {error}") from None
    real = answer["folder"]
    wanted = os.path.join(os.path.abspath(mountpoint), "MyDrive")
    os.makedirs(os.path.dirname(wanted), exist_ok=True)
    for place in (wanted, os.path.join(os.path.dirname(wanted), "My Drive")):
        if not os.path.lexists(place):
            try:
                os.symlink(real, place)
            except OSError:
                if place == wanted:
                    raise
    print(f"Mounted at {mountpoint}" + ("" if answer["write"] else " (read-only)"))


def flush_and_unmount(timeout_ms: int = 86400000) -> None:
    """Nothing to do: what was written is already in the folder."""
