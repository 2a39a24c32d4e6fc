"""Stand-ins for the programs that make a port of this machine public: they say where it is shown here, and wait.

Nothing leaves the machine. They print what the real ones print, because notebooks read the address out of it.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "site"))

_PORT = re.compile(r"(?:^|[:=])(\d{2,5})/?$")


def main(name: str, words: list[str]) -> int:
    """The program `name` with its arguments."""
    if name == "npx":
        if not any(word.split("@")[0] in ("localtunnel", "lt") for word in words):
            if os.access("/usr/bin/npx", os.X_OK):
                os.execv("/usr/bin/npx", ["npx", *words])
            print("npx: only localtunnel is known here; Node.js is not installed", file=sys.stderr)
            return 127
        name = "lt"
    if not words or words[0] in ("--version", "version", "-v", "authtoken", "config", "update", "--help", "help"):
        print(f"{name}: the local stand-in of allmend; it makes no public address")
        return 0
    port = next((found[1] for word in reversed(words) if (found := _PORT.search(word))), None)
    if port is None:
        print(f"{name}: no port to show was named", file=sys.stderr)
        return 2
    address = importlib.import_module("google.colab._box").address(int(port)).rstrip("/")
    if name == "cloudflared":
        print(f"INF |  {address}  |  shown on this machine alone", file=sys.stderr, flush=True)
    elif name == "lt":
        print(f"your url is: {address}", flush=True)
    else:
        print(f"Forwarding    {address} -> http://localhost:{port}", flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1], sys.argv[2:]))
    except KeyboardInterrupt:
        sys.exit(130)
