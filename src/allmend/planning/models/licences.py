"""Licences of models, and the limits on use that they bring."""

from __future__ import annotations

import re

LIMITS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^cc-by-nc"), "not for commercial use"),
    (re.compile(r"^cc-by-nd|^cc-by-nc-nd"), "no changed versions may be passed on"),
    (re.compile(r"^llama|llama\d|meta-llama"), "Meta's licence: use policy, naming rules, a limit on very large services"),
    (re.compile(r"^gemma"), "Gemma Terms: a prohibited-use policy that must be passed on"),
    (re.compile(r"openrail|bigscience"), "RAIL: uses listed in the licence are forbidden, and must be forbidden downstream"),
    (re.compile(r"^other$|^unknown$"), "a licence of its own; read the file"),
    (re.compile(r"flux-1-dev|stabilityai|stable-cascade|sai-nc|non-?commercial|research"), "limits on commercial use; read the file"),
    (re.compile(r"qwen-research|^qwen$|tongyi|deepseek|mistral-ai-research|mrl"), "the maker's own licence; read its limits"),
    (re.compile(r"^(?:a?gpl)"), "copyleft: what is built on it may have to be open too"),
)  # fmt: skip
_FREE = re.compile(
    r"^(?:apache-2\.0|mit|bsd(?:-.*)?|cc0-1\.0|cc-by-4\.0|cc-by-sa-4\.0|isc|unlicense|wtfpl|ecl-2\.0|zlib)$"
)


def limits(licence: str) -> list[str]:
    """What a licence forbids or asks for; empty for a permissive one."""
    word = licence.strip().lower()
    if _FREE.match(word):
        return []
    return [text for shape, text in LIMITS if shape.search(word)][:2] or [
        "not one of the common licences; read the file"
    ]
