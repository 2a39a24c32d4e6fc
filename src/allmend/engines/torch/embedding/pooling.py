"""From token states to one vector a row, as the model's own files say.

The files are those of sentence-transformers: `modules.json` lists what follows the transformer, the folder of the
pooling module holds its `config.json`, `sentence_bert_config.json` the limit in tokens, and
`config_sentence_transformers.json` the prompts the model was trained with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from allmend.errors import InputError
from allmend.models.kind import read

Mode = Literal["mean", "cls", "max", "lasttoken"]
_FLAGS: dict[str, Mode] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class Pooling:
    """What follows the transformer."""

    mode: Mode = "mean"
    normalise: bool = False
    limit: int | None = None
    """Tokens of a row, where the model's files state one."""
    lower: bool = False
    """Whether texts are put in lower case first."""
    prompts: dict[str, str] = field(default_factory=dict)
    """What stands before a text, by its use: `query`, `document`, and `plain` for neither."""

    def pooled(self, hidden: Tensor, lengths: Sequence[int]) -> Tensor:
        """(T, D) states of rows end to end to (N, D) float32."""
        rows = hidden.float()
        if self.mode == "mean":
            counts = torch.tensor(lengths, device=rows.device)
            out = torch.segment_reduce(rows, "mean", lengths=counts, axis=0)
        elif self.mode == "max":
            out = torch.stack([row.amax(0) for row in torch.split(rows, list(lengths))])
        else:
            ends = torch.tensor(lengths, device=rows.device).cumsum(0)
            places = ends - 1 if self.mode == "lasttoken" else ends - torch.tensor(lengths, device=rows.device)
            out = rows.index_select(0, places)
        return torch.nn.functional.normalize(out, dim=1) if self.normalise else out


def pooling_of(folder: Path) -> Pooling:
    """What a model's folder says; a plain transformer is averaged, as sentence-transformers does.

    Raises:
        InputError: it says something that is not done here.
    """
    modules = read(folder / "modules.json")
    if not isinstance(modules, list) or not modules:
        return Pooling()
    mode: Mode = "mean"
    normalise = False
    for module in modules:
        kind = str(module.get("type", "")).rsplit(".", 1)[-1] if isinstance(module, dict) else ""
        if kind == "Pooling":
            mode = _mode(_inside(folder, module) / "config.json")
        elif kind == "Normalize":
            normalise = True
        elif kind != "Transformer":
            raise _not_done(f"a module {kind or 'without a name'!r}", folder / "modules.json")
    stated = _fields(folder / "sentence_bert_config.json")
    limit = stated.get("max_seq_length")
    return Pooling(
        mode,
        normalise,
        int(limit) if isinstance(limit, int) and limit > 0 else None,
        bool(stated.get("do_lower_case")),
        _prompts(_fields(folder / "config_sentence_transformers.json")),
    )


def _fields(path: Path) -> dict[str, Any]:
    """A file that holds an object; an empty one where it holds something else."""
    found = read(path)
    return found if isinstance(found, dict) else {}


def _prompts(stated: dict[str, Any]) -> dict[str, str]:
    """By use. Those of documents have several names, as sentence-transformers has it."""
    given = stated.get("prompts")
    named = {str(name): str(text) for name, text in given.items()} if isinstance(given, dict) else {}
    document = next((named[name] for name in ("document", "passage", "corpus") if named.get(name)), "")
    plain = named.get(str(stated.get("default_prompt_name")), "")
    return {"query": named.get("query", ""), "document": document, "plain": plain}


def _inside(folder: Path, module: dict[str, Any]) -> Path:
    """A module's folder, which lies in the model's."""
    path = (folder / str(module.get("path", ""))).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InputError("a module's folder lies outside the model", where=str(folder / "modules.json"))
    return path


def _mode(path: Path) -> Mode:
    config = _fields(path)
    if config.get("include_prompt") is False:
        raise _not_done("pooling without the prompt", path)
    stated = config.get("pooling_mode")
    if isinstance(stated, str):
        if stated not in _FLAGS.values():
            raise _not_done(f"pooling {stated!r}", path)
        return cast(Mode, stated)
    on = [name for name, value in config.items() if name.startswith("pooling_mode_") and value]
    if len(on) != 1 or on[0] not in _FLAGS:
        raise _not_done(f"pooling by {' and '.join(on) or 'nothing'}", path)
    return _FLAGS[on[0]]


def _not_done(what: str, path: Path) -> InputError:
    return InputError(
        f"this embedding model asks for {what}, which is not done here",
        where=str(path),
        hint="Mean, first token, last token and maximum are, each with or without normalising.",
    )
