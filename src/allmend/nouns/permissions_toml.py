"""The TOML form of permissions, as a person reads and edits it."""

from __future__ import annotations

import json
from typing import Any


def toml_string(text: str) -> str:
    """A TOML basic string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return toml_string(value)
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return repr(value)


_GROUPS = {
    "network": "Hosts by name (443 and 80 unless a port is given), and local ports shown outside.",
    "files": "What is shown read-only, the folder that receives outputs, and which outputs.",
    "devices": "Accelerators by number.",
    "limits": "Sizes like 4G, times like 30m. A limit written here is kept, or the run is refused.",
    "accept": "Findings of the plan that you have read and accept.",
}


def toml_lines(data: dict[str, Any]) -> list[str]:
    """The lines for a value's plain form; reading them back gives an equal value."""
    lines = ["# What this notebook may do. Nothing else is allowed; remove a line to take a permission away.\n"]
    lines += [
        f"{key} = {_toml_value(data[key])}\n"
        for key in ("schema", "notebook", "sha256", "python")
        if data[key] is not None
    ]
    for group, comment in _GROUPS.items():
        entries = {key: value for key, value in data[group].items() if value not in (None, [])}
        if entries or group == "network":
            lines.append(f"\n# {comment}\n[{group}]\n")
            lines += [f"{key} = {_toml_value(value)}\n" for key, value in entries.items()]
    for name, secret in data["secrets"].items():
        lines.append(f"\n# From the environment variable {name}; once handed over, only these hosts stay reachable.\n")
        lines.append(f"[secrets.{name}]\nhosts = {_toml_value(secret['hosts'])}\n")
        if secret["environment"]:
            lines.append("environment = true\n")
    if data["drive"]:
        lines.append("\n# The folder that drive.mount shows.\n[drive]\n")
        lines += [f"{key} = {_toml_value(value)}\n" for key, value in data["drive"].items()]
    return lines
