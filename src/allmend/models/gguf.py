"""GGUF to a safetensors folder, once.

The file is de-quantised by transformers' own reader and stored as bf16 under `ALLMEND_HOME/converted/SHA-256/`.
The weights keep the error of their quantisation: this is the model in the file, not the checkpoint it was made
from. bf16 holds de-quantised 4- to 8-bit values with an error far below that of the quantisation; the loss of the
converted model is held equal to that of the direct load in a test.
"""

from __future__ import annotations

import io
import json
import shutil
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allmend.errors import DoesNotFit, InputError, Unavailable
from allmend.home import home
from allmend.models.fetch import Progress, locked

if TYPE_CHECKING:
    from allmend.nouns.model import Model


def converted(model: Model, progress: Progress | None = None) -> Path:
    """The safetensors folder of a GGUF model, made on first use.

    Raises:
        InputError: the file is damaged, or of an architecture that transformers cannot read from GGUF.
        DoesNotFit: no room on the disk.
    """
    folder = home("converted") / model.digest[:32]
    if (folder / "config.json").is_file():
        return folder
    with locked(home("converted") / f".{model.digest[:32]}.lock"):
        if (folder / "config.json").is_file():
            return folder
        _check_space(folder.parent, model)
        hidden = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir()
        try:
            _convert(model, hidden, progress)
            hidden.rename(folder)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
    return folder


def _check_space(folder: Path, model: Model) -> None:
    # 16 bits a weight from at least 4: at most four times the file.
    needed, free = 4 * model.size, shutil.disk_usage(folder).free
    if free < needed:
        raise DoesNotFit(
            f"converting {model.name} needs up to {needed / 2**20:.0f} MiB and {free / 2**20:.0f} MiB are free",
            where=str(folder),
            hint="Free some space, or point ALLMEND_HOME at another disk.",
        )


def _convert(model: Model, target: Path, progress: Progress | None) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    what = f"converting {model.name}"
    if progress:
        progress(what, 0, 3)
    source: dict[str, Any] = {"gguf_file": model.path.name, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(model.path.parent, **source)
        if progress:
            progress(what, 1, 3)
        # Its bars would run through ours.
        with redirect_stderr(io.StringIO()):
            network = AutoModelForCausalLM.from_pretrained(model.path.parent, dtype=torch.float32, **source)
        network.to(torch.bfloat16)
    except ImportError as error:
        raise Unavailable(
            f"reading GGUF files needs a package that is not here: {error}", hint="pip install 'allmend[tune]'"
        ) from error
    except Exception as error:  # the reader raises whatever a damaged header makes it raise
        raise InputError(
            f"this GGUF file cannot be read: {type(error).__name__}: {str(error)[:300]}",
            where=str(model.path),
            hint="It may be cut short, or of an architecture that is not supported yet.",
        ) from error
    if progress:
        progress(what, 2, 3)
    # transformers marks the model as quantised and then refuses to save it; it is plain by now.
    network.hf_quantizer = None
    network.is_quantized = False
    network.quantization_method = None
    if hasattr(network.config, "quantization_config"):
        del network.config.quantization_config
    network.config.name_or_path = ""
    try:
        network.save_pretrained(target)
        tokenizer.save_pretrained(target)
    except Exception as error:  # safetensors wraps the system's error in its own
        if shutil.disk_usage(target).free < model.size or "No space" in str(error) or "too large" in str(error):
            raise DoesNotFit(
                f"the disk is full while converting {model.name}",
                where=str(target.parent),
                hint="Free some space, or point ALLMEND_HOME at another disk; nothing half-written was kept.",
            ) from error
        raise
    (target / "allmend.json").write_text(json.dumps({"converted_from": model.digest, "name": model.name}, indent=2))
    if progress:
        progress(what, 3, 3)
