"""`allmend index`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from allmend.cli.show import notes, out, print_json
from allmend.verbs.index import IndexSettings, index, indexes

if TYPE_CHECKING:
    from allmend.verbs.index import Indexed

_SHOWN = 12
_EVERY = 5.0
"""Seconds between two lines of progress."""


def command(
    folder: Annotated[Path | None, Parameter(name="FOLDER")] = None,
    /,
    *,
    settings: Annotated[IndexSettings, Parameter(name="*")] = IndexSettings(),  # noqa: B008
    json: bool = False,
) -> None:
    """Make a folder's documents searchable, by meaning and by word; again: bring that up to date.

    Without a folder and a name, the indexes that are here.

    Parameters
    ----------
    folder
        Text, Markdown, HTML, PDF, notebooks, Word files and program texts in it and below are read.
    json
        Print JSON.
    """
    from allmend.cli.serve import show_progress

    if folder is None and settings.name is None:
        _list(json)
        return
    done = index(folder, **dict(settings), progress=show_progress(), watch=_Told())
    if json:
        print_json(done)
        return
    _show(done, asked=settings.ask is not None, followed=folder is not None)


class _Told:
    """A line every few seconds: how far it is, and how long the rest may take."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._last = clock()

    def __call__(self, path: str, done: int, total: int) -> None:
        now = self._clock()
        if now - self._last < _EVERY or not total or not path:
            return
        self._last = now
        rate = done / (now - self._began)
        left = f", {rate / 1000:.1f} kB a second, about {_spoken((total - done) / rate)} left" if done else ""
        words = f"  {100 * done // total} % of {total / 1e6:.1f} MB{left}  ({path})"
        notes().print(words, style="dim", markup=False)


def _spoken(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _list(json: bool) -> None:
    found = indexes()
    if json:
        print_json(found)
        return
    for each in found.indexes:
        words = f"{each.name}  {each.documents} documents, {each.passages} passages, {each.model}  {each.folder or ''}"
        out().print(words, markup=False)
        for path, why in each.not_read.items():
            notes().print(f"  not read: {path}: {why}", markup=False)
    if not found.indexes:
        out().print("There are no indexes yet: allmend index FOLDER makes one.", markup=False)


def _show(done: Indexed, *, asked: bool, followed: bool) -> None:
    show = out().print
    if done.folder is not None:
        words = f"{done.name}: {done.documents} documents, {done.passages} passages"
        if followed:
            words += f" ({done.indexed} read, {done.unchanged} as before, {done.removed} gone)"
        words += f"  {done.seconds:.1f} s"
        (notes().print if asked else show)(words, markup=False)
    for path, why in list(done.not_read.items())[:_SHOWN]:
        notes().print(f"  not read: {path}: {why}", markup=False)
    if len(done.not_read) > _SHOWN:
        notes().print(f"  and {len(done.not_read) - _SHOWN} more; --json names them all", markup=False)
    for path, what in list(done.partly.items())[:_SHOWN]:
        notes().print(f"  not all of {path}: {what}", markup=False)
    for passage in done.found:
        page = f", page {passage.page}" if passage.page is not None else ""
        show(f"{passage.score:.2f}  {passage.path}{page}", style="bold", markup=False, soft_wrap=True)
        show(f"      {' '.join(passage.text.split())[:400]}", markup=False, soft_wrap=True)
    if asked and not done.found:
        show("Nothing was found.", markup=False)
    if not asked:
        show(f"Ask it:   allmend index --name {done.name} --ask 'a question'", markup=False, soft_wrap=True)
        show(f"Serve it: allmend serve {done.model} --index {done.name}", markup=False, soft_wrap=True)
