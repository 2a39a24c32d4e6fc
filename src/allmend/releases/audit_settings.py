"""What the small files of an artefact say: configuration, sampling, template, tokenizer; each beside the base's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from allmend.nouns.release import Breach
from allmend.releases.causes import breach
from allmend.releases.expected import Expected
from allmend.releases.gguf.settings import generation_of
from allmend.releases.tokenizer_files import tokenizer_of

_CAUSES = {
    "vocab_size": "vocabulary",
    "tie_word_embeddings": "tied",
    "eos_token_id": "eos",
    "bos_token_id": "bos",
    "quantization_config": "requantised",
    "dtype": "dtype",
    "torch_dtype": "dtype",
}
_IGNORED = {"transformers_version", "_name_or_path", "use_cache", "architectures", "auto_map"}


def settings(artefact: str, folder: Path, expected: Expected) -> list[Breach]:
    """`config.json` and `generation_config.json` of a merged folder."""
    found = []
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError, RecursionError) as error:
        return [breach(artefact, "unreadable", f"its config.json cannot be read: {error}")]
    for key in sorted({*config, *expected.config} - _IGNORED):
        here, there = config.get(key), expected.config.get(key)
        if here != there:
            cause = "rope" if "rope" in key else _CAUSES.get(key, "config")
            found.append(
                breach(artefact, cause, f"config.json has another {key} than the base", f"{there!r} became {here!r}")
            )
    return found + sampler(artefact, generation_of(folder), expected)


def sampler(artefact: str, generation: dict[str, Any], expected: Expected) -> list[Breach]:
    """Sampling defaults, and the marks that stand among them."""
    found = []
    for key in sorted({*generation, *expected.generation} - _IGNORED):
        here, there = generation.get(key), expected.generation.get(key)
        if here != there:
            cause = _CAUSES.get(key, "sampler")
            words = f"generation_config.json has another {key} than the base"
            found.append(breach(artefact, cause, words, f"{there!r} became {here!r}"))
    return found


def template(artefact: str, text: str | None, expected: Expected) -> list[Breach]:
    """The chat template, byte for byte."""
    if text == expected.template:
        return []
    if text is None:
        return [breach(artefact, "template", "the chat template is missing")]
    marks = expected.marks
    wanted = expected.template
    # A mark written twice is told apart from another template.
    if marks.bos_text and (text.count("bos_token") > wanted.count("bos_token") or marks.bos_text in text):
        return [breach(artefact, "bos", "its chat template writes the begin mark once more than what was tested")]
    evidence = f"{len(wanted)} characters became {len(text)}"
    return [breach(artefact, "template", "its chat template is not the one that was trained with", evidence)]


def tokenizer(artefact: str, folder: Path, expected: Expected) -> list[Breach]:
    """Marks, size and template of the tokenizer in a folder."""
    try:
        loaded = tokenizer_of(folder)
    except Exception as error:  # whatever its files make it raise
        return [breach(artefact, "unreadable", f"its tokenizer cannot be loaded: {str(error)[:200]}")]
    found = []
    marks = expected.marks
    if loaded.eos_token_id != marks.eos:
        words = "its tokenizer ends answers with another token than they were trained with"
        if loaded.eos_token_id is None:
            words = "its tokenizer has no end-of-text token, so answers never end"
        found.append(breach(artefact, "eos", words, f"{marks.eos} became {loaded.eos_token_id}"))
    if loaded.bos_token_id != marks.bos:
        found.append(
            breach(artefact, "bos", "its tokenizer has another begin mark", f"{marks.bos} became {loaded.bos_token_id}")
        )
    if len(loaded) not in expected.vocabulary:
        found.append(
            breach(
                artefact, "vocabulary", "its tokenizer has another number of tokens than the base's",
                f"{max(expected.vocabulary)} became {len(loaded)}",
            )
        )  # fmt: skip
    text = loaded.chat_template
    return found + template(artefact, text if isinstance(text, str) else None, expected)
