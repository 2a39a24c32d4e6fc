"""What the box itself answers to code inside: secrets, the Drive folder, uploads, downloads. Each answer is
recorded."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from allmend.box.egress.http import Request
from allmend.box.egress.policy import Policy
from allmend.box.places import Places
from allmend.box.record import Record
from allmend.errors import Refused
from allmend.nouns.permissions import Permissions, Secret

_MOST_DOWNLOADS = 1000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class Services:
    """Answers requests to http://allmend.box/."""

    def __init__(
        self,
        permissions: Permissions,
        places: Places,
        policy: Policy,
        record: Record,
        uploads: list[str],
    ) -> None:
        self.permissions = permissions
        self.places = places
        self.policy = policy
        self.record = record
        self.uploads = uploads
        self.downloads: list[str] = []
        """Paths that `files.download` named, relative to the working folder."""
        self.address: Callable[[int, str], str | None] | None = None
        """Knows where a port is shown."""
        self.awaited = False
        """The notebook asked where a port is shown: a server is there or will be soon."""
        self.called_later = False
        """The notebook keeps functions that buttons in its outputs call."""
        self.ends_itself = False
        """The notebook gave its runtime back: the run ends after this cell."""

    def answer(self, request: Request, body: bytes) -> tuple[int, str]:
        """(status, text) for one request; hostile input."""
        routes: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "/userdata": self._secret,
            "/drive": self._drive,
            "/uploads": lambda _: {"files": self.uploads},
            "/download": self._download,
            "/account": self._account,
            "/unassign": self._unassign,
            "/address": self._address,
            "/callback": self._callback,
        }
        route = routes.get(request.target)
        if route is None or request.method != "POST":
            return 404, "there is no such service"
        try:
            details = json.loads(body)
            if not isinstance(details, dict):
                raise ValueError("not an object")
            return 200, json.dumps(route(details))
        except Refused as error:
            return 403, str(error)
        except (ValueError, RecursionError):
            return 400, "malformed"

    def _secret(self, details: dict[str, Any]) -> dict[str, Any]:
        name = str(details.get("name", ""))[:100]
        secret = self.permissions.secrets.get(name)
        # Only a secret that exists is worth a person's answer; it then goes wherever the run may go.
        worth_asking = secret is None and name in os.environ and _NAME.fullmatch(name)
        if worth_asking and self.policy.questions.allowed("secret", name):
            secret = Secret(hosts=["*"])
        if secret is None:
            advice = (
                f"Add a section [secrets.{name}] with hosts = [...] to the permissions file, "
                f"or run with --allow secret:{name}@HOST."
            )
            self.record.add("secret", name, "denied", detail=f"secret {name} is not permitted", advice=advice)
            raise Refused(f"secret {name} is not permitted", hint=advice)
        value = os.environ.get(name)
        if value is None:
            self.record.add(
                "secret", name, "attempted", detail="permitted, but there is no environment variable of that name"
            )
            return {"value": None}
        self.record.add("secret", name, "allowed")
        self.policy.narrow(name, secret.hosts)
        return {"value": value}

    def _drive(self, details: dict[str, Any]) -> dict[str, Any]:
        if self.permissions.drive is None:
            advice = 'Add [drive] with folder = "FOLDER" to the permissions file, or run with --allow drive:FOLDER.'
            self.record.add("drive", "google-drive", "denied", detail="Drive is not permitted", advice=advice)
            raise Refused("Drive is not permitted", hint=advice)
        write = self.permissions.drive.write
        self.record.add("drive", "google-drive", "allowed", detail="read and write" if write else "read only")
        return {"folder": self.places.drive, "write": write}

    def _download(self, details: dict[str, Any]) -> dict[str, Any]:
        path = str(details.get("path", ""))[:4096]
        try:
            inner = PurePosixPath(os.path.normpath(path)).relative_to(self.places.content)
        except ValueError:
            raise Refused("only files of the working folder can be downloaded") from None
        if len(self.downloads) < _MOST_DOWNLOADS and str(inner) not in self.downloads:
            self.downloads.append(str(inner))
        self.record.add("output", str(inner), "seen", detail="named by files.download")
        return {}

    def _account(self, details: dict[str, Any]) -> dict[str, Any]:
        advice = "Nothing can permit it; use a secret or files granted by name."
        self.record.add("secret", "google-account", "denied", detail="never handed over", advice=advice)
        raise Refused("a Google account is never handed to a notebook in the box")

    def _address(self, details: dict[str, Any]) -> dict[str, Any]:
        """Where a port of the notebook is shown: an address that opens nothing without the link a person has."""
        port, path = details.get("port"), str(details.get("path", "/"))[:2000]
        if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
            raise Refused("that is no port")
        self.awaited = True
        shown = self.address(port, path) if self.address is not None else None
        if shown is None and port in self.permissions.network.publish:
            shown = f"http://127.0.0.1:{port}/"
        return {"url": shown}

    def _callback(self, details: dict[str, Any]) -> dict[str, Any]:
        self.called_later = True
        return {}

    def _unassign(self, details: dict[str, Any]) -> dict[str, Any]:
        self.ends_itself = True
        return {}
