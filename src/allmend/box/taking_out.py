"""What a run leaves: files copied out of the box by its permissions, and a line for every one that it wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from allmend.box.changes import Changes
from allmend.box.export import DEFAULT_OUTPUTS, Exported, export, matches, why_not
from allmend.nouns.permissions import Permissions
from allmend.nouns.receipt import FileWritten

if TYPE_CHECKING:
    from allmend.box.box import Box

_MOST_LISTED = 2000


def take_out(box: Box, changes: Changes, permissions: Permissions) -> Iterator[FileWritten]:
    """Take the outputs and a Drive folder that may be written out of a box that has ended; a line as each is out.

    Args:
        changes: files of the working folder that were written.
    """
    settings = box.settings
    if settings.level == "D":
        return  # it worked in the notebook's own folder
    globs = [*DEFAULT_OUTPUTS, *permissions.files.outputs, *map(_escape, box.services.downloads)]
    results: dict[str, Exported] = {}
    if permissions.files.write is not None:
        destination = (settings.folder / Path(permissions.files.write).expanduser()).absolute()
        found = export(box.scratch.content, destination, globs, most_bytes=box.limits.disk)
        results = {item.path: item for item in found}
    for path, (size, cell) in sorted(changes.by_path.items())[:_MOST_LISTED]:
        result = results.pop(path, None)
        declared = matches(path, globs)
        reason = result.refused if result else ("no folder to write to was permitted" if declared else None)
        reason = reason or (why_not(path) if declared and result is None else None)
        exported = result is not None and result.refused is None
        yield FileWritten(path=path, bytes=size, cell=cell, exported=exported, why_not=reason)
    rest = [(item.path, item) for item in results.values()]
    if box.interior.drive_copy is not None and permissions.drive is not None:
        drive = (settings.folder / Path(permissions.drive.folder).expanduser()).resolve()
        taken = export(box.interior.drive_copy, drive, ["**"], most_bytes=box.limits.disk, changed_only=True)
        rest += [(f"drive/MyDrive/{item.path}", item) for item in taken]
    for path, item in rest:
        refused = item.refused
        yield FileWritten(path=path, bytes=item.bytes, cell=-1, exported=refused is None, why_not=refused)


def _escape(path: str) -> str:
    """A path as a glob that matches it alone."""
    return path if not set(path) & set("*?") else "".join("?" if c in "*?" else c for c in path)
