"""`allmend lock`: fix what a notebook installs and fetches, check it, compare it, hand it to uv and juv."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from allmend.errors import NotFound, UsageError
from allmend.verbs.settings import Settings, Size

if TYPE_CHECKING:
    from allmend.nouns.lock import Lock, LockReport

MISMATCH = 13
"""The exit code of `lock --check` when the lock does not hold."""


class LockSettings(Settings):
    """Settings of `lock`."""

    as_of: str | None = None
    """Packages and clones as they were at the end of this day (YYYY-MM-DD); kept by later locks."""
    update: tuple[str, ...] = ()
    """Resolve this package or address anew, and leave the rest; `all` for everything. May be given several times."""
    profile: str = "auto"
    """The packages a notebook starts with: base, colab, this (this environment's, by version only), or auto: base with
    what the notebook imports of the colab list and never installs."""
    fetch: bool = True
    """Fetch everything a run needs into the cache, so that it works offline."""
    limit: Size | None = None
    """Refuse files larger than this."""


@dataclass(frozen=True)
class Locked:
    """A lock as it was made."""

    lock: Lock
    earlier: Lock | None
    files: list[Path]
    """What was written."""


def lock(
    notebook: str | Path,
    *,
    as_of: str | None = None,
    update: Sequence[str] = (),
    profile: str = "auto",
    fetch: bool = True,
    limit: int | None = None,
) -> Lock:
    """Lock a notebook, in its metadata and in a TOML file beside it; returns the lock.

    What an earlier lock fixed stays, unless named in `update`.

    Raises:
        NotFound: a package does not exist, or did not on that day.
        InputError: the packages exclude each other; or the notebook cannot be read.
        Refused: a package comes only as source and could not be built in the box.
        FetchError: a server does not answer, or what it gives is not what was locked.
    """
    given = {name: value for name, value in locals().items() if name != "notebook"}
    return carry_out(Path(notebook), LockSettings.of(given)).lock


def carry_out(path: Path, settings: LockSettings, tell: Callable[[str], None] = lambda text: None) -> Locked:
    """Make and write a lock, telling what is worked on."""
    from pydantic import ValidationError

    from allmend.box import document, interpreters, named, owner
    from allmend.errors import InputError
    from allmend.locking import forms, make, store
    from allmend.verbs.plan import plan as make_plan

    if settings.as_of is not None:
        _check_day(settings.as_of)
    read = document.read(path)
    interpreters.wanted(read)
    store.ready()
    found = make_plan(path)
    try:
        earlier = forms.read(path)
    except InputError:
        earlier = None
        tell("the earlier lock cannot be used: everything is locked anew")
    wishes = make.Wishes(
        as_of=settings.as_of, update=settings.update, profile=settings.profile, bring=settings.fetch,
        most=settings.limit, tell=tell,
    )  # fmt: skip
    _check_names(settings.update, earlier)
    folder = path.resolve().parent
    imports = {name for name in named.imports(read) if not (folder / f"{name}.py").exists()}
    try:
        made = make.make(found, path.name, read.content, folder, owner.read(), wishes, earlier, imports)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise InputError(
            f"something the notebook or a server names cannot stand in a lock: {problem['msg']} "
            f"(given: {str(problem['input'])[:200]!r})",
            where=str(path),
        ) from None
    return Locked(made, earlier, forms.write(path, made))


def check(
    notebook: str | Path, *, upstream: bool = False, tell: Callable[[str], None] = lambda text: None
) -> LockReport:
    """Whether the lock still holds: against the notebook, and with `upstream` against what is there now.

    Raises `NotFound` where there is no lock.
    """
    from allmend.locking import check as checking
    from allmend.verbs.plan import plan as make_plan

    path = Path(notebook)
    held = of(path)
    report = checking.against_plan(held, make_plan(path), _digest(path))
    if not upstream:
        return report.model_copy(update={"not_checked": ["what is upstream (--upstream asks)"]})
    theirs = checking.upstream(held, tell)
    return report.model_copy(
        update={
            "second": "notebook and upstream",
            "changes": [*report.changes, *theirs.changes],
            "not_checked": theirs.not_checked,
        }
    )


def diff(notebook: str | Path, other: str | Path) -> LockReport:
    """What differs from `other` (a notebook or a lock file) to the lock of `notebook`, in words."""
    from allmend.locking import check as checking

    return checking.between(of(Path(other)), of(Path(notebook)), (str(other), str(notebook)))


def of(path: Path) -> Lock:
    """The lock of a notebook, or in a lock file; raises `NotFound`, `InputError`."""
    from allmend.locking import forms

    if path.suffix == ".toml":
        return forms.read_toml(path)
    held = forms.read(path)
    if held is None:
        raise NotFound("this notebook has no lock", where=str(path), hint=f"`allmend lock {path.name}` makes one.")
    return held


def export(notebook: str | Path, target: Path) -> Path:
    """Write the lock for other tools: `.txt` requirements with digests, `.py` a PEP 723 block, `.ipynb` a copy of the
    notebook with that block as its first cell, as juv keeps it."""
    import json

    from allmend.box import document
    from allmend.box.run import write_atomically
    from allmend.locking import forms

    path = Path(notebook)
    held = of(path)
    if target.suffix == ".txt":
        text = forms.requirements(held)
    elif target.suffix == ".py":
        text = forms.pep723(held)
    elif target.suffix == ".ipynb":
        text = json.dumps(forms.juv(held, document.read(path).content), indent=1, ensure_ascii=False) + "\n"
    else:
        raise UsageError(
            f"{target.name}: the ending says what is written", where="--export",
            hint="requirements.txt for pip and uv, a .py for the PEP 723 block, an .ipynb for juv.",
        )  # fmt: skip
    write_atomically(target, text)
    return target


def adopt(notebook: str | Path, file: Path) -> Lock:
    """Put the lock of a file into a notebook, in place of its own."""
    from allmend.locking import forms

    held = forms.read_toml(file)
    forms.write(Path(notebook), held)
    return held


def _digest(path: Path) -> str:
    from allmend.box import document
    from allmend.locking.make import code_digest

    return code_digest(document.read(path).content)


def _check_day(text: str) -> None:
    from datetime import date

    try:
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            raise ValueError
        day = date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no day; write it like 2023-03-01", where="--as-of") from None
    if day > date.today():
        raise UsageError(f"{text} has not come yet", where="--as-of")


def _check_names(names: Sequence[str], earlier: Lock | None) -> None:
    from allmend.errors import nearest

    if not names or "all" in names:
        return
    if earlier is None:
        return
    known = {one.name for one in earlier.packages} | {one.name for one in earlier.system}
    addresses = [*(one.url for one in earlier.clones), *(one.url for one in earlier.downloads)]
    known |= {*addresses, *(one.name for one in earlier.repositories)}
    known |= {address.rstrip("/").rsplit("/", 1)[-1] for address in addresses}
    for name in names:
        if name.lower() not in {one.lower() for one in known}:
            raise UsageError(
                f"the lock has nothing called {name!r}", where="--update", hint=nearest(name, known) or None
            )
