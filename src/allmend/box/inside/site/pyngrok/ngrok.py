"""Tunnels as local ports: `connect` answers where the port is shown."""

import re

from google.colab import _box


class NgrokTunnel:
    """A port that is shown."""

    def __init__(self, port: int, proto: str, name: str) -> None:
        self.name, self.proto = name, proto
        self.public_url = _box.address(port).rstrip("/")
        self.config = {"addr": f"http://localhost:{port}", "inspect": False}
        self.data = {"name": name, "proto": proto, "public_url": self.public_url, "config": self.config}
        self.uri = self.public_url

    def __repr__(self) -> str:
        return f'NgrokTunnel: "{self.public_url}" -> "{self.config["addr"]}"'

    __str__ = __repr__


_open: list = []


def connect(
    addr: object = None, proto: object = None, name: object = None, *args: object, **options: object
) -> NgrokTunnel:
    """Where `addr` (a port, or an address that ends in one) is shown."""
    addr = options.get("port", addr)
    found = re.search(r"(\d{2,5})/?$", str(addr if addr is not None else 80))
    if found is None:
        raise ValueError(f"there is no port in {addr!r}")
    made = NgrokTunnel(int(found[1]), str(proto or "http"), str(name or f"http-{found[1]}"))
    _open.append(made)
    return made


def disconnect(public_url: object = None, pyngrok_config: object = None) -> None:
    """Forget it; the port is shown as long as it answers."""
    _open[:] = [each for each in _open if each.public_url != str(public_url)]


def get_tunnels(pyngrok_config: object = None) -> list:
    """What `connect` was asked for."""
    return list(_open)


def set_auth_token(token: object, pyngrok_config: object = None) -> None:
    """Not needed, not kept."""


def kill(pyngrok_config: object = None) -> None:
    """Forget all."""
    _open.clear()


def install_ngrok(pyngrok_config: object = None) -> None:
    """There is nothing to install."""


def get_ngrok_process(pyngrok_config: object = None) -> object:
    """A process that is none: waiting for it returns."""

    from types import SimpleNamespace

    return SimpleNamespace(proc=SimpleNamespace(wait=lambda *given: None), public_url=None)


def run(args: object = None, pyngrok_config: object = None) -> None:
    """Nothing to do."""
