"""Chat templates: text that a template engine runs. What reaches beyond text is named."""

from __future__ import annotations

import re

_BEYOND = (
    (re.compile(r"__(?:class|globals|subclasses|builtins|import|mro|bases|init|getattribute|dict|code|base)__"), "Python's inner attributes"),
    (re.compile(r"\|\s*attr\s*\("), "attributes chosen by text"),
    (re.compile(r"\b(?:lipsum|cycler|joiner)\b\s*(?:\.|\()"), "the engine's own objects"),
    (re.compile(r"\b(?:os|subprocess|sys|shutil|socket)\s*\.\s*\w+"), "modules of the system"),
    (re.compile(r"\{%-?\s*(?:include|import|extends|from)\b"), "other files"),
    (re.compile(r"\b(?:eval|exec|open|popen|system)\s*\("), "calls that run or open something"),
    (re.compile(r"\bself\s*\._|\brequest\s*\.|\bconfig\s*\.\s*\w"), "the engine's own state"),
)  # fmt: skip


def beyond_text(template: str) -> list[str]:
    """In words, what a chat template reaches for besides the messages; empty for an ordinary one."""
    code = "\n".join(re.findall(r"\{[{%#].*?[}%#]\}", template[:1_000_000], re.DOTALL))
    bare = re.sub(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", "''", code)
    found = [words for shape, words in _BEYOND[:2] if shape.search(code)]
    found.extend(words for shape, words in _BEYOND[2:] if shape.search(bare))
    return found
