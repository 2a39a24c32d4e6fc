"""Accounts and secrets, listed where they enter: prompted, read, mounted, set, or written in the code."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from allmend.planning.evaluation.calls import segment
from allmend.planning.evaluation.values import (
    DERIVED,
    MISSING,
    Either,
    Made,
    Unknown,
    Value,
    derived,
    has_hole,
    options,
)
from allmend.planning.secrets import SHAPES, key_like, literal_kind, placeholder, real_looking

if TYPE_CHECKING:
    from allmend.planning.evaluation.calls import Call
    from allmend.planning.session import Session

_PROMPTS = frozenset(
    {"getpass.getpass", "getpass.unix_getpass", "maskpass.askpass", "stdiomask.getpass", "pwinput.pwinput"}
)
_INPUTS = frozenset({"builtins.input", "builtins.raw_input"})
_SECRET_WORDS = re.compile(
    r"\b(?:api|access|auth|secret)?[ _-]?(?:key|token|password|passwd|secret|credential)s?\b", re.IGNORECASE
)
_FORM = re.compile(r"#\s*@param")
_TOKEN_KEYWORDS = frozenset({"token", "use_auth_token", "hf_token", "hub_token", "auth_token"})
_PLACEHOLDER_WORDS = re.compile(
    r"your|insert|enter|paste|x{3,}|<.+>|\.\.\.|\*{3}|replace|…|add[ _]|here", re.IGNORECASE
)
_HUB = re.compile(
    r"from_pretrained$|load_dataset$|hf_hub_download$|snapshot_download$|push_to_hub|^huggingface_hub\.|^transformers\.|"
    r"^diffusers\.|^datasets\.|^peft\.|from_single_file$|InferenceClient|TrainingArguments|upload_f"
)
_QUICK = re.compile(
    r"hf_|sk-|gh[pousr]_|github_pat|AIza|ya29|AKIA|ASIA|xox|gsk_|r8_|nvapi|:AA|webhooks|PRIVATE KEY|@|[12]\w{26}_"
)


def literals(session: Session, source: str) -> None:
    """Secrets written anywhere in a cell, by their shape."""
    if not _QUICK.search(source):
        return
    for number, line in enumerate(source.split("\n"), start=1):
        if len(line) > 5000 or not _QUICK.search(line):
            continue
        code = _uncommented(line)
        for kind, shape in SHAPES:
            for match in shape.finditer(code):
                if not placeholder(match[0]):
                    session.add("credential", f"literal:{kind}", literal=True, line=number)
                    break
        if "://" in code and "@" in code and literal_kind(code) in ("github", "password", "huggingface"):
            kind_found = literal_kind(code)
            if not any(shape.search(code) for _, shape in SHAPES):
                session.add("credential", f"literal:{kind_found}", literal=True, line=number)


def _uncommented(line: str) -> str:
    return "" if line.lstrip().startswith("#") else line


def on_call(session: Session, call: Call) -> Value:
    """Prompts, reads of the environment, tokens handed to a hub."""
    path = call.path
    if path in _PROMPTS:
        _prompt(session, call, always=True)
        return Unknown(segment(session.python.place, call.node), "a person types it while the notebook runs", "?")
    if path in _INPUTS:
        _prompt(session, call, always=False)
        return Unknown(segment(session.python.place, call.node), "a person types it while the notebook runs", "?")
    if path in ("os.getenv", "os.environ.get", "os.environ.setdefault", "decouple.config", "os.environ.pop"):
        key, node = call.get(0, "key", "varname")
        if path.endswith("setdefault"):
            value, _ = call.get(1, "default")
            set_environment(session, key, value, call.node, node or call.node)
            return value
        found = read_environment(session, key, node)
        if isinstance(found, Unknown):
            default, _ = call.get(1, "default")
            if isinstance(default, str) and default:
                return derived(default)
        return found
    if path in ("os.environ.update",):
        value = call.args[0] if call.args else call.keywords
        if isinstance(value, dict):
            for key, item in value.items():
                set_environment(session, key, item, call.node, call.node)
        return None
    if path == "os.putenv" and len(call.args) > 1:
        set_environment(session, call.args[0], call.args[1], call.node, call.node)
        return None
    if path.endswith(("ngrok.set_auth_token", "conf.get_default")):
        if path.endswith("set_auth_token"):
            _service(session, call, "ngrok")
        return MISSING
    if path in ("dotenv.load_dotenv", "dotenv.dotenv_values"):
        session.facts["dotenv"] = True
        return MISSING
    _keywords(session, call)
    return MISSING


def _service(session: Session, call: Call, name: str) -> None:
    session.add("credential", name, literal=True)


def _prompt(session: Session, call: Call, *, always: bool) -> None:
    text, _ = call.get(0, "prompt")
    shown = session.holes.shown(text) if isinstance(text, str) else ""
    name = call.naming or ""
    if not always and not (key_like(name) or _SECRET_WORDS.search(shown)):
        return
    if not name:
        match = re.search(r"[A-Z][A-Z0-9_]{4,}", shown)
        name = match[0] if match else re.sub(r"\W+", " ", shown).strip().replace(" ", "_").lower()[:60] or "password"
    session.add("credential", f"prompt:{name}", literal=True)


def _keywords(session: Session, call: Call) -> None:
    hub = bool(_HUB.search(call.path))
    for name, value in call.keywords.items():
        if hub and name in _TOKEN_KEYWORDS:
            _hub_token(session, call, name, value)
        elif (key_like(name) or name in ("openai_api_key",)) and isinstance(value, str):
            node = next((k.value for k in call.node.keywords if k.arg == name), None)
            if isinstance(node, ast.Constant):
                _written(session, name, value)


def _hub_token(session: Session, call: Call, name: str, value: Value) -> None:
    node = next((k.value for k in call.node.keywords if k.arg == name), None)
    for _, option in options(value):
        if option is True or (isinstance(option, str) and isinstance(node, ast.Constant) and option):
            session.add("credential", "huggingface", literal=True)
            return


def _written(session: Session, name: str, text: str) -> None:
    """A literal given for something that holds a key."""
    if not text.strip() or has_hole(text):
        return
    if literal_kind(text):
        return
    if real_looking(text, name):
        word = (
            "password" if re.search(r"pass|pwd", name, re.IGNORECASE) else "token" if "token" in name.lower() else "key"
        )
        session.add("credential", f"literal:{word}", literal=True)
    elif _PLACEHOLDER_WORDS.search(text) and placeholder(text):
        session.add("credential", f"prompt:{name}", literal=True)


def on_assign(session: Session, name: str, value: Value, source: ast.expr) -> None:
    """Form fields for a key, keys and placeholders written in the code, environment that became a variable."""
    if not key_like(name):
        if name.lower() in ("device", "dev", "torch_device", "accelerator") and not isinstance(source, ast.Call):
            from allmend.planning.effects import hardware

            hardware.on_constant(session, source, value)
        return
    place = session.python.place
    last = source.end_lineno or 0
    line = place.lines[last - 1] if 0 < last <= len(place.lines) else ""
    if _FORM.search(line):
        text = value if isinstance(value, str) else ""
        if text and literal_kind(text):
            return
        if text and real_looking(text, name):
            session.add("credential", "literal:password", literal=True)
        elif isinstance(value, str | Unknown) or value is None:
            session.add("credential", f"prompt:{name}", literal=True)
        return
    if isinstance(source, ast.Constant) and isinstance(value, str):
        _written(session, name, value)


def on_set_attribute(session: Session, path: str, value: Value, source: ast.expr) -> None:
    """`openai.api_key = ..`."""
    name = path.rpartition(".")[2]
    if key_like(name) and isinstance(source, ast.Constant) and isinstance(value, str):
        _written(session, name, value)


def set_environment(session: Session, key: Value, value: Value, source: ast.expr, key_node: ast.expr) -> None:
    """`os.environ[key] = value`."""
    if not isinstance(key, str) or has_hole(key):
        return
    name = key.replace(DERIVED, "")
    session.journal.set(session.world.environment, name, value)
    _environment(session, name, value)
    if key_like(name) or name in ("HF_TOKEN", "WANDB_API_KEY"):
        session.add("credential", f"env:{name}", literal=isinstance(key_node, ast.Constant) or key_node is source)
        if (
            isinstance(value, str)
            and isinstance(source, ast.Constant)
            and real_looking(value)
            and not literal_kind(value)
        ):
            _written(session, name, value)


def read_environment(session: Session, key: Value, node: ast.AST | None) -> Value:
    """`os.environ[key]`, `os.getenv(key)`."""
    if not isinstance(key, str) or has_hole(key):
        return Unknown("os.environ[...]", "it is read from the environment")
    name = key.replace(DERIVED, "")
    known = session.world.environment.get(name)
    if key_like(name) and f"env:{name}" not in session.credentials:
        session.add("credential", f"env:{name}", literal=isinstance(node, ast.Constant))
    if name == "COLAB_TPU_ADDR":
        from allmend.planning.effects import hardware

        hardware.need(session, "tpu")
    if known is not None:
        return derived(known)
    if name == "HOME":
        return "~"
    return Unknown(f"${name}", "it is read from the environment")


def shell_variable(session: Session, name: str, value: str) -> None:
    """`export NAME=value` in a shell, `%env NAME=value`."""
    _environment(session, name, value)
    if key_like(name) and name.isupper():
        session.add("credential", f"env:{name}", literal=True)


def _environment(session: Session, name: str, value: Value) -> None:
    if name == "CUDA_VISIBLE_DEVICES" and isinstance(value, str) and value.replace(DERIVED, "")[:1].isdigit():
        from allmend.planning.effects import hardware

        hardware.need(session, "gpu")
    if name == "PYTHONPATH" and isinstance(value, str):
        for piece in value.replace(DERIVED, "").split(":"):
            if piece and not has_hole(piece) and len(session.world.search) < 200:
                session.world.search.append(session.world.resolve(piece))
    if name in ("COMMANDLINE_ARGS", "GRADIO_SHARE") and isinstance(value, str):
        from allmend.planning.effects import flags

        flags.flags(session, value.replace(DERIVED, "").split())


def from_account(value: Value) -> bool:
    """Whether a value came from a prompt, the environment or a secret store."""
    if isinstance(value, Either):
        return any(from_account(option) for _, option in value.options)
    if isinstance(value, Made):
        return "userdata.get" in value.path or "getpass" in value.path or "get_secret" in value.path
    return isinstance(value, Unknown) and ("types it" in value.reason or "environment" in value.reason)
