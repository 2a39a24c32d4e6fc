"""Hubs for tests: started in this process, with people who have keys, and clients that are not offline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from allmend.hub.server import HubServer


@dataclass
class Running:
    """A hub with people."""

    server: HubServer
    folder: Path
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.server.url

    def person(self, name: str, *scopes: str) -> str:
        """A key of a person, who is made where there is none of that name."""
        from allmend.access import accounts, keys
        from allmend.errors import NotFound

        asked = f"{name} {' '.join(scopes)}"
        if asked not in self.keys:
            try:
                accounts.get(name)
            except NotFound:
                accounts.create(name)
            self.keys[asked] = keys.create(name, "test", scopes=scopes or ("hub:admin",)).text
        return self.keys[asked]

    def api(self, name: str | None = "anna", *scopes: str) -> Any:
        """The stock client of a person; of nobody where the name is None."""
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.url, token=self.person(name, *scopes) if name else False)

    def http(self, name: str | None = "anna", *scopes: str) -> httpx.Client:
        """Plain requests of a person."""
        headers = {"authorization": f"Bearer {self.person(name, *scopes)}"} if name else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120)


@contextmanager
def running(store: Path | str, **settings: Any) -> Iterator[Running]:
    """A hub over a folder; clients of this process are let onto the network and given a cache of their own."""
    import huggingface_hub.constants as constants
    import pytest

    from allmend import database
    from allmend.access import keys
    from allmend.verbs.start_hub import start_hub

    settings = {"inspect": False, "port": 0, **settings}
    folder = Path(str(store).replace("://", "-"))
    keys.forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_CACHE", str(folder.parent / "hub-cache"))
        patch.setattr(constants, "HF_XET_CACHE", str(folder.parent / "xet-cache"), raising=False)
        patch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        server = start_hub(store=store, **settings)
        try:
            yield Running(server, folder, {"admin": server.token or ""})
        finally:
            server.close()
            database.forget()
            keys.forget()
