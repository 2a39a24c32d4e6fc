"""Writing a whole model as a folder that transformers, and everything that reads its format, loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from allmend.models.loading import Loaded

TEMPLATE, NOTES = "chat_template.jinja", "allmend.json"


def write_model(folder: Path, loaded: Loaded, template: str, template_name: str) -> None:
    """Write weights (safetensors), configuration, tokenizer and chat template; the folder appears by rename.

    Args:
        template: the chat template's Jinja text that the model was trained with.
    """
    hidden = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(hidden, ignore_errors=True)
    try:
        loaded.model.save_pretrained(hidden)
        loaded.tokenizer.save_pretrained(hidden)
        (hidden / TEMPLATE).write_text(template, "utf-8")
        about = {
            "schema": "allmend.model_notes/1",
            "base": loaded.about.base or loaded.about.name,
            "base_digest": loaded.about.digest,
            "template": template_name,
        }
        (hidden / NOTES).write_text(json.dumps(about, indent=2))
        shutil.rmtree(folder, ignore_errors=True)
        hidden.replace(folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
