"""Flags of a script or server that mean something whoever takes them: sharing, tunnels, models, tokens, devices."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from allmend.planning.effects.targets import hub_name
from allmend.planning.evaluation.values import DERIVED

if TYPE_CHECKING:
    from allmend.planning.effects.line import Line
    from allmend.planning.session import Session

_MODEL_FLAG = re.compile(
    r"^--?(?:pretrained_model_name_or_path|model_name_or_path|base_model|model_id|hf_model|pretrained_model|model_name|model|"
    r"\w*_name_or_path|tokenizer_name|model-path|model_path|model-id|model-name)$"
)

_DATASET_FLAG = re.compile(r"^--(?:dataset_name|hf_dataset|dataset-name)$")


_TUNNELS = {
    "--ngrok": "ngrok", "--ngrok_token": "ngrok", "--ngrok-token": "ngrok", "--ngrok_authtoken": "ngrok",
    "--cloudflared": "cloudflared", "--cloudflare": "cloudflared", "--localtunnel": "localtunnel",
}  # fmt: skip
"""Flags that show what is served to everybody, and by whom."""


def flags(session: Session, words: list[str]) -> None:
    """Flags that mean something whoever takes them."""
    for at, word in enumerate(words):
        head, sign, tail = word.partition("=")
        value = tail if sign else words[at + 1] if at + 1 < len(words) else ""
        low = value.strip("\"'").lower()
        if head in ("--share", "--is_share", "--gradio-share") and (not sign or low not in ("false", "0")):
            session.add("serve", "gradio-share", literal=True, detail={"public": "yes"})
        elif head in _TUNNELS:
            session.add("serve", _TUNNELS[head], literal=True, detail={"public": "yes"})
        elif re.match(r"--(?:disable-safe-unpickle|no-safe-unpickle|allow-unsafe-load|disable_safe_unpickle)", head):
            session.add("unpickle", "flag:" + head.lstrip("-"), literal=True)
        elif head in ("--push_to_hub", "--push-to-hub") and low not in ("false", "0"):
            session.add("send", "huggingface", literal=True)
        elif head in ("--report_to", "--log_with", "--logger", "--report-to") and low in ("wandb", "all"):
            session.add("send", "wandb", literal=True)
        elif head in ("--hub_token", "--hf_token", "--hf-token", "--huggingface_token", "--use_auth_token") and value:
            session.add("credential", "huggingface", literal=True)
        elif head in ("--gpus", "--gpu", "--gpu_ids", "--gpu-ids", "--cuda", "--gpu_id", "--use_gpu", "--n_gpus") or (
            head in ("--device", "-device") and low.startswith(("cuda", "gpu"))
        ):
            from allmend.planning.effects import hardware

            if low not in ("-1", "0") or head in ("--gpu", "--gpus", "--gpu_ids", "--gpu-ids", "--gpu_id"):
                hardware.need(session, "gpu")


def arguments(session: Session, line: Line, start: int) -> None:
    """Flags after a script, with the models and data sets that they name."""
    flags(session, line.words[start:])
    for at in range(start, len(line.words)):
        head, sign, tail = line.words[at].partition("=")
        if not head.startswith("-"):
            continue
        place = at if sign else at + 1
        value = tail if sign else line.words[place] if place < len(line.words) else ""
        value = value.strip("\"'")
        mark = "" if line.exact(place) else DERIVED
        if _MODEL_FLAG.match(head) and "/" in value and hub_name(value) and not session.world.is_local(value, line.cwd):
            line.add("model", place, mark + value, prefix="hf:")
        elif _DATASET_FLAG.match(head) and hub_name(value):
            line.add("dataset", place, mark + value, prefix="hf:")
        elif head == "--trust_remote_code" and value.lower() not in ("false", "0"):
            session.facts["remote"] = True
