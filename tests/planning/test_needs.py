"""What a plan says it needs: only what is known is summed, and what is not is counted."""

from __future__ import annotations

import json

from allmend.notebooks import read_bytes
from allmend.nouns.plan import Needs
from allmend.planning import plan_notebook


def needs(*sources: str, **metadata: object) -> Needs:
    cells = [{"cell_type": "code", "source": source, "metadata": {}, "outputs": []} for source in sources]
    data = json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells}).encode()
    return plan_notebook(read_bytes(data, name="a.ipynb"), path="a.ipynb").needs


def test_weights_installs_and_data_are_summed_with_where_the_numbers_come_from() -> None:
    found = needs(
        "!pip install torch numpy",
        "import tensorflow_datasets as tfds\ntfds.load('mnist')",
        "from transformers import AutoModel\nAutoModel.from_pretrained('org/net-7B')",
    )
    assert found.weights_bytes == 14 * 10**9
    assert found.install_bytes == 755_000_000
    assert found.data_bytes == 11_600_000
    assert found.disk_bytes == 14 * 10**9 + 755_000_000 + 11_600_000
    assert found.fetch_seconds == found.disk_bytes // (20 * 2**20)
    assert found.unknown_sizes == 0
    said = " ".join(found.computed_from)
    assert "their names" in said and "releases" in said and "catalogues" in said
    assert "how long its code runs is not known" in said


def test_what_has_no_known_size_is_counted_and_never_taken_for_small() -> None:
    found = needs(
        "!pip install some-odd-package\n!wget https://h.example/a.zip",
        "from datasets import load_dataset\nload_dataset('org/rows')",
        "from transformers import AutoModel\nAutoModel.from_pretrained('org/net')",
    )
    assert found.unknown_sizes == 4
    assert found.disk_bytes is None and found.fetch_seconds is None
    assert found.fits is None, "weights of unknown size: nobody can say that they fit"
    assert any("1 of its models" in reason for reason in found.why)


def test_a_missing_accelerator_names_what_would_do(monkeypatch) -> None:
    import allmend.planning.needs as module

    monkeypatch.setattr(module, "gpu_present", lambda: False)
    load = "from transformers import AutoModel\nAutoModel.from_pretrained('org/net-13B').to('cuda')"
    found = needs(load)
    assert found.fits is False
    assert any("A100" in reason and "T4" not in reason for reason in found.why)
    lent = needs("print(1)", accelerator="GPU", colab={"gpuType": "L4"})
    assert any("A L4 or one with more memory" in reason for reason in lent.why)


def test_a_notebook_that_brings_nothing_fits() -> None:
    found = needs("print(1)")
    assert found.fits is True and found.disk_bytes is None and found.unknown_sizes == 0
