"""Why an exported model is not the one that was tested: each cause with its words and its fix."""

from __future__ import annotations

from allmend.nouns.release import Breach

FIXES = {
    "truncated": "Copy or make the file again; check it with `allmend ship verify`.",
    "template": "Put back the chat template that lies beside the adapter.",
    "bos": "The prompt must begin with exactly one begin mark: let either the template or the tokenizer write it.",
    "eos": "Set the end-of-text token to the one that the answers were trained with.",
    "base": "Take the base whose digest the adapter names.",
    "requantised": "Merge into the base in bf16 or fp32, and quantise only the result, once.",
    "rounded": "Tune without --base-bits, or with 8 instead of 4, to ship it for the base itself.",
    "alpha": "Take alpha, rank and rsLoRA from the adapter's own configuration.",
    "tied": "Keep the output head tied to the embedding, or store an exact copy of it.",
    "overflow": "Store the weights as bf16 or fp32: these numbers are too large for fp16.",
    "dtype": "Store the weights in the base's own format.",
    "rope": "Put back the base's rotary settings.",
    "vocabulary": "Keep as many embedding rows as the base has; resize before tuning, never after.",
    "sampler": "Put back the base's generation_config.json and the sampler values made from it.",
    "config": "Put back the base's config.json.",
    "tokens": "The file's tokenizer reads text differently; ship without this format, or report the tokenizer.",
    "weights": "Make the artefact again from the base and the adapter.",
    "unreadable": "Its consumer cannot open it at all; make it again, or ship without it.",
    "behaviour": "No cause was found in the files: do not ship this artefact; take a format of more bits.",
    "quality": "Take a format of more bits: this one costs more than its threshold allows.",
}


def breach(artefact: str, cause: str, message: str, evidence: str = "") -> Breach:
    """A breach with the fix of its cause."""
    return Breach(artefact=artefact, cause=cause, message=message, fix=FIXES[cause], evidence=evidence)
