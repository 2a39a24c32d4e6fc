"""A certificate that was renewed is used without a restart: they last for weeks, and a server for months."""

from __future__ import annotations

import logging
import ssl
import threading
from pathlib import Path

_log = logging.getLogger(__name__)
_LOOK = 60.0
"""Seconds between looks."""


class Renewal:
    """Looks at a certificate's files, from a thread, until `stop`.

    Args:
        context: what new connections are made with; it takes the new pair as soon as that is whole.
    """

    def __init__(self, context: ssl.SSLContext, cert: str, key: str) -> None:
        self._context, self._files = context, (Path(cert), Path(key))
        self._seen = self._told = self._look()
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name="allmend-certificate", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def renew(self) -> bool:
        """Take the files where they have changed; whether they were taken."""
        now = self._look()
        if now is None or now == self._seen:
            return False
        cert, key = map(str, self._files)
        try:
            # One of the two may be written and the other not: what is in use is not touched before both fit.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=lambda: b"")
            self._context.load_cert_chain(cert, key, password=lambda: b"")
        except (OSError, ValueError) as error:
            if now != self._told:
                _log.error("the certificate's files have changed and do not fit (%s); the one before is used", error)
            self._told = now
            return False
        self._seen = now
        _log.warning("the certificate was renewed")
        return True

    def _run(self) -> None:
        while not self._stopped.wait(_LOOK):
            self.renew()

    def _look(self) -> list[tuple[int, int, int]] | None:
        try:
            return [(found.st_ino, found.st_mtime_ns, found.st_size) for found in (each.stat() for each in self._files)]
        except OSError:
            return None  # Being replaced at this moment.
