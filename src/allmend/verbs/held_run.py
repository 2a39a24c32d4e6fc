"""A run held to the notebook's lock: `run --locked`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from allmend.errors import UsageError

if TYPE_CHECKING:
    from allmend.box.job import Progress
    from allmend.box.owner import Operator
    from allmend.locking.held import Held
    from allmend.verbs.run import Prepared


def hold(prepared: Prepared) -> Prepared:
    """The same run, held to the notebook's lock.

    Hosts need no permission then: every connection ends at the cache.

    Raises:
        NotFound: there is no lock. InputError: it cannot be read.
        Refused: the notebook asks for what the lock does not hold.
    """
    from allmend.box import document
    from allmend.locking.check import require
    from allmend.locking.make import code_digest
    from allmend.verbs.lock import of

    path = prepared.document.path
    if prepared.settings.unsandboxed:
        raise UsageError("--locked needs the box: nothing else keeps a notebook to its lock", where="--unsandboxed")
    lock = of(path)
    # As it lies in the file: values from the command line are no edit.
    notes = require(lock, prepared.plan, code_digest(document.read(path).content))
    notes += [f"cell {one.cell}: {one.what} is not locked and will be refused: {one.why}" for one in lock.unlocked]
    granted = prepared.permissions
    for proposed in prepared.proposals:
        if proposed.grant.startswith("host:"):
            granted = granted.with_grant(proposed.grant)
    rest = [proposed for proposed in prepared.proposals if not proposed.grant.startswith("host:")]
    return replace(prepared, permissions=granted, proposals=rest, lock=lock, notes=[*notes, *prepared.notes])


def ready(prepared: Prepared, machine: Operator, progress: Progress | None) -> Held:
    """The locked packages and the cache in the world's place, for `with`; see `locking.held.ready`."""
    from allmend.box.outputs import Shown
    from allmend.locking import held

    def tell(text: str) -> None:
        if progress is not None:
            progress.output(-1, Shown("note", f"allmend: {text}\n"))

    assert prepared.lock is not None
    return held.ready(prepared.lock, machine, tell)
