"""Recognising secrets written in code, and taking them out of whatever is shown."""

from __future__ import annotations

import math
import re
from collections import Counter

SHAPES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("huggingface", re.compile(r"\bhf_[A-Za-z0-9]{30,}\b|\bapi_org_[A-Za-z0-9]{30,}\b")),
    ("anthropic", re.compile(r"\bsk-ant-[A-Za-z0-9_-]{30,}")),
    ("openai", re.compile(r"\bsk-(?:proj-|svcacct-)?[A-Za-z0-9_-]{20,}\b")),
    ("github", re.compile(r"\bgh[pousr]_[A-Za-z0-9]{30,}\b|\bgithub_pat_[A-Za-z0-9_]{40,}\b")),
    ("google", re.compile(r"\bAIza[A-Za-z0-9_-]{35}\b|\bya29\.[A-Za-z0-9_-]{30,}")),
    ("aws", re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")),
    ("slack", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}")),
    ("groq", re.compile(r"\bgsk_[A-Za-z0-9]{30,}\b")),
    ("replicate", re.compile(r"\br8_[A-Za-z0-9]{30,}\b")),
    ("nvidia", re.compile(r"\bnvapi-[A-Za-z0-9_-]{30,}")),
    ("ngrok", re.compile(r"\b[12][A-Za-z0-9]{26}_[A-Za-z0-9]{20,}\b")),
    ("telegram", re.compile(r"\b\d{8,10}:AA[A-Za-z0-9_-]{32,}\b")),
    ("discord", re.compile(r"https://(?:ptb\.|canary\.)?discord(?:app)?\.com/api/webhooks/\d{15,}/[A-Za-z0-9_-]{40,}")),
    ("private-key", re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----")),
)
_URL_USER = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<user>[^/\s:@'\"]*):(?P<word>[^/\s@'\"{}$]{4,})@|"
                       r"(?P<scheme2>https?://)(?P<token>(?:ghp_|hf_|glpat-)[A-Za-z0-9_-]{10,})@")  # fmt: skip
_PLACEHOLDER = re.compile(
    r"your|xxx|<.*>|\.\.\.|…|\*\*\*|insert|enter|replace|paste|todo|change[ _-]?me|example|dummy|placeholder|redacted|"
    r"^\s*$|api[_ -]?key|token[_ -]?here|here$|not[-_ ]?needed|^none$|^test$|^empty$|^fake|^key$|^token$|^secret$|^null$|"
    r"^ollama$|no[-_ ]?key|key[_ ]?here|^-$|^na$|^local|_key$|^password$|12345|abcdef|EMPTY|^sk-?$|^hf_?$",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"your|xxx|insert|enter|replace|paste|change[_-]?me|example|dummy|placeholder|redacted|here$", re.IGNORECASE
)
KEY_NAME = re.compile(
    r"(?:^|_|\b)(?:api_?key|apikey|access_?key|secret_?key|auth_?token|access_?token|authtoken|api_?token|hf_?token|token|"
    r"secret|password|passwd|pwd|credentials?|auth_?key|private_?key|client_?secret|key|pat)s?\d*$",
    re.IGNORECASE,
)
_NOT_A_KEY = re.compile(
    r"(?:pad|eos|bos|unk|sep|cls|mask|special|max|min|num|new|n|image|start|end|stop|add|sub|trigger|instance|prompt|"
    r"placeholder|initializer|class|input|output|total|first|last|next|prev|out|oov|rank|dict|sort|foreign|primary|public|"
    r"data|label|text|column|target|feature|by|musical|random|query|attn|join|group|index|video|audio|row|col|cache|rng|jax|prng|"
    r"keypress|hot|short|filter|nomask|decoder|unique)_?(?:tokens?|keys?)\d*$|^(?:keys?|tokens?)$|tokenizer|keyword|(?:^|_)tokens$|"
    r"(?:_|^)key_?(?:path|file|name|dim|length|size)$|^(?:PYTHON|TF_|TOKENIZERS|CUDA)",
    re.IGNORECASE,
)


def literal_kind(text: str) -> str | None:
    """The service whose key `text` looks like, by its shape, or None."""
    if len(text) < 12:
        return None
    for kind, shape in SHAPES:
        match = shape.search(text)
        if match and not placeholder(match[0]):
            return kind
    match = _URL_USER.search(text)
    if match and "{" not in match[0]:
        return "github" if "github" in text else "huggingface" if "huggingface" in text else "password"
    return None


def placeholder(text: str) -> bool:
    """Whether `text` only stands for a secret (`YOUR_KEY`, `hf_...`)."""
    body = re.sub(r"^(?:hf_|sk-|AIza|gh[pousr]_)", "", text)
    if len(body) > 3 and len(set(body)) <= 3:
        return True
    shaped = len(body) >= 16 and any(shape.fullmatch(text) for _, shape in SHAPES)
    # A key of the right shape may hold `12345` or `abcdef` and still be one; words that ask for a key never stand in one.
    return bool((_ASKS if shaped else _PLACEHOLDER).search(text))


def real_looking(text: str, name: str = "") -> bool:
    """Whether a value given for a key or password looks like a real one rather than a stand-in."""
    if literal_kind(text):
        return True
    if placeholder(text) or len(text) < 6 or " " in text.strip():
        return False
    if re.search(r"pass(?:word|wd)?$|pwd$", name, re.IGNORECASE):
        return any(c.isdigit() for c in text) and any(c.isalpha() for c in text)
    counts = Counter(text)
    entropy = -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())
    return len(text) >= 16 and entropy > 3.2 and any(c.isdigit() for c in text)


def key_like(name: str) -> bool:
    """Whether a variable, setting or environment name says that it holds a secret."""
    return bool(KEY_NAME.search(name)) and not _NOT_A_KEY.search(name)


def redact(text: str) -> str:
    """`text` without the secrets written in it."""
    if len(text) < 12:
        return text
    for kind, shape in SHAPES:
        if shape.search(text):
            text = shape.sub(lambda m, k=kind: m[0] if placeholder(m[0]) else f"***{k}***", text)  # type: ignore[misc]
    return _URL_USER.sub(_hidden, text) if "@" in text else text


def _hidden(match: re.Match[str]) -> str:
    """An address without the password in it; a placeholder stays readable."""
    word = match["word"] or match["token"] or ""
    if word.startswith("***"):
        return f"{match['scheme'] or match['scheme2']}***@"
    if placeholder(word) or "{" in match[0] or not any(sign.isdigit() for sign in word):
        return match[0]
    return f"{match['scheme'] or match['scheme2']}***@"
