"""What a repository's own small files say of it: its card, its library, its task, how many numbers it holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool

from allmend import database
from allmend.hub import cards, commits, describing, repositories, trees
from allmend.hub.looking import looking
from allmend.hub.objects import File

if TYPE_CHECKING:
    from allmend.hub.state import Hub

_LONGEST = 2 * 2**20
_LONGEST_HEADER = 16 * 2**20
_MOST_HEADERS = 32
_TASKS = {
    "ForCausalLM": "text-generation", "LMHeadModel": "text-generation",
    "ForConditionalGeneration": "text-generation", "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification", "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask", "ForImageClassification": "image-classification",
    "ForCTC": "automatic-speech-recognition",
}  # fmt: skip


async def refresh(hub: Hub, repository: int, commit: str) -> None:
    """Read the small files of main anew, and have its contents inspected."""
    try:
        files = await run_in_threadpool(_files, commit)
    except KeyError:
        # Squashed and collected since: the commit was made, and what is said of main follows from a later one.
        return
    card: dict[str, Any] = {}
    try:
        card = cards.front_matter(await _text(hub, files.get("README.md")))
    except cards.CardError:
        pass  # the client was told when it asked; a repository is not less for it
    facts = await _facts(hub, files)

    def write() -> None:
        with database.writing() as connection:
            found = repositories.by_id(connection, repository)
            if found is None:
                return
            repositories.change(connection, found, card=json.dumps(card), facts=json.dumps(facts))
            repositories.set_tags(connection, found, describing.tags_of(card, facts))

    await run_in_threadpool(write)
    if hub.inspector is not None:
        hub.inspector.want(commit)


def _files(commit: str) -> dict[str, File]:
    """Files at the root that are looked at."""
    with looking() as connection:
        tree = commits.load(connection, commit).tree
        found: dict[str, File] = {}
        for path, entry in trees.walk(connection, tree, recursive=False):
            if isinstance(entry, File) and (
                path in ("README.md", "config.json", "adapter_config.json", "release.json")
                or (path.endswith(".safetensors") and len(found) < _MOST_HEADERS)
            ):
                found[path] = entry
        return found


async def _text(hub: Hub, file: File | None) -> str:
    if file is None or file.size > _LONGEST or not file.key:
        return ""
    return (await _bytes(hub, file, 0, file.size)).decode("utf-8", "replace")


async def _bytes(hub: Hub, file: File, start: int, end: int) -> bytes:
    if file.sha256 is None:
        return (await hub.store.read_small(file.key))[start:end]
    return b"".join([chunk async for chunk in hub.store.read(file.key, start, end)])


async def _facts(hub: Hub, files: dict[str, File]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    config = _json(await _text(hub, files.get("config.json")))
    adapter = _json(await _text(hub, files.get("adapter_config.json")))
    if config:
        kept = {key: config[key] for key in ("architectures", "model_type") if key in config}
        facts["config"] = kept
        if isinstance(config.get("model_type"), str):
            facts["model_type"] = config["model_type"][:100]
            facts["library_name"] = "transformers"
        names = config.get("architectures")
        first = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""
        task = next((task for end, task in _TASKS.items() if first.endswith(end)), None)
        if first:
            facts["transformersInfo"] = {"auto_model": "AutoModel", "pipeline_tag": task}
        if task:
            facts["pipeline_tag"] = task
    if adapter:
        facts["library_name"] = "peft"
        base = adapter.get("base_model_name_or_path")
        facts["tags"] = ["adapter", *([f"base_model:{base[:200]}"] if isinstance(base, str) and base else [])]
    if "release.json" in files:
        facts["tags"] = [*facts.get("tags", []), "allmend-release"]
    weights = await _weights(hub, [file for path, file in files.items() if path.endswith(".safetensors")])
    if weights:
        facts["safetensors"] = {"parameters": weights, "total": sum(weights.values())}
        facts["tags"] = [*facts.get("tags", []), "safetensors"]
    return facts


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


async def _weights(hub: Hub, files: list[File]) -> dict[str, int]:
    """Numbers by element type, as the headers say; files whose header is none count nothing."""
    counts: dict[str, int] = {}
    for file in files:
        if file.size < 8 or not file.key:
            continue
        length = int.from_bytes(await _bytes(hub, file, 0, 8), "little")
        if length > min(_LONGEST_HEADER, file.size - 8):
            continue
        rows = _json((await _bytes(hub, file, 8, 8 + length)).decode("utf-8", "replace"))
        for name, row in rows.items():
            shape = row.get("shape") if isinstance(row, dict) else None
            if name == "__metadata__" or not isinstance(shape, list):
                continue
            if not all(isinstance(side, int) and 0 <= side < 2**40 for side in shape) or len(shape) > 16:
                continue
            number = 1
            for side in shape:
                number *= side
            kind = str(row.get("dtype"))[:20]
            counts[kind] = min(counts.get(kind, 0) + number, 2**60)
    return counts
