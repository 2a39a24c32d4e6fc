"""`allmend hub collect`: taking away what no repository leads to any more."""

from __future__ import annotations

import asyncio
from pathlib import Path

from allmend.home import home
from allmend.verbs.settings import Duration, Settings
from allmend.verbs.start_hub import use_database


class HubCollectSettings(Settings):
    """Settings of `allmend hub collect`."""

    store: str | None = None
    """Where the hub keeps contents, as given to `allmend hub`."""

    database: str | None = None
    """Its database, as given to `allmend hub`."""

    older: Duration = 22 * 86400.0
    """Contents that came later than this before now are left alone. The stock client remembers for three weeks what it
    uploaded, and refers to it without asking: with less, its next upload of the same may fail once."""


def hub_collect(
    *, store: str | Path | None = None, database: str | None = None, older: Duration | str = 22 * 86400.0
) -> dict[str, int]:
    """Take away contents that no reference of any repository reaches; what was taken: `objects`, `bytes`, `trees`.

    Raises:
        Unavailable: the store or the database cannot be reached.
    """
    given = {"store": None if store is None else str(store), "database": database, "older": older}
    settings = HubCollectSettings.of(given)
    from allmend.hub.collecting import collect
    from allmend.hub.store import Store

    place = settings.store or str(home("hub"))
    use_database(settings.database, place)
    return asyncio.run(collect(Store.open(place), older=settings.older))
