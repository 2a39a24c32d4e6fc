"""Hub names, folders and keys are told apart wherever the notebook stands."""

from __future__ import annotations

import pytest
from notebook_cells import effects_of

HUB = "from transformers import AutoModel\nAutoModel.from_pretrained('some-owner/some-model')"


@pytest.mark.parametrize(
    "before",
    [
        "!git clone https://github.com/someone/tools\n%cd tools",
        "from google.colab import drive\ndrive.mount('/content/drive')\n%cd /content/drive/MyDrive/work",
        "!wget https://files.example/pack.zip && unzip pack.zip -d pack\n%cd pack",
    ],
    ids=["clone", "drive", "archive"],
)
def test_a_hub_name_is_one_whatever_the_working_directory(before: str) -> None:
    assert ("model", "hf:some-owner/some-model") in effects_of(before, HUB)


@pytest.mark.parametrize("folder", ["checkpoints/final", "models/tiny"])
def test_a_folder_of_weights_in_a_clone_is_no_hub_name(folder: str) -> None:
    made = effects_of(
        "!git clone https://github.com/someone/tools\n%cd tools", HUB.replace("some-owner/some-model", folder)
    )
    assert not [target for kind, target in made if kind == "model"]


def test_a_folder_that_the_notebook_saved_is_no_hub_name() -> None:
    made = effects_of(HUB + "\nm = AutoModel.from_pretrained('bert')\nm.save_pretrained('mine/one')",
                      "AutoModel.from_pretrained('mine/one')")  # fmt: skip
    assert ("model", "hf:mine/one") not in made


def test_modules_of_python_2_come_from_no_clone() -> None:
    made = effects_of(
        "!git clone https://github.com/someone/tools\n%cd tools", "import urllib2, cPickle\nimport toolkit"
    )
    assert [target for kind, target in made if kind == "foreign_code"] == ["toolkit"]


@pytest.mark.parametrize("command", ["tar -C / -xzf x.tgz", "tar xzf x.tgz -C /", "tar --zstd -xf x.tar.zst -C /"])
def test_unpacking_over_the_system_is_destructive(command: str) -> None:
    assert ("destructive", "/") in effects_of("!" + command)


@pytest.mark.parametrize("client", ["httpx.Client", "httpx.AsyncClient"])
def test_a_clients_base_address_is_part_of_its_requests(client: str) -> None:
    made = effects_of(
        f"import httpx\nc = {client}(base_url='https://api.example/v1')\nc.get('/things')\nc.post('/things')"
    )
    assert ("download", "https://api.example/v1/things") in made and ("send", "api.example") in made


@pytest.mark.parametrize(
    ("text", "found"),
    [("hf_" + "aB3dE9" * 6, True), ("sk-" + "".join(map(chr, range(97, 123))) * 2, True), ("hf_" + "x" * 34, False), ("sk-YOUR_KEY_HERE_PLEASE_123", False)],
    ids=["mixed", "counting", "crosses", "words"],
)  # fmt: skip
def test_a_text_with_a_keys_full_shape_is_a_key(text: str, found: bool) -> None:
    assert (
        any(kind == "credential" and target.startswith("literal:") for kind, target in effects_of(f"k = {text!r}"))
        is found
    )


def test_a_method_that_nothing_calls_knows_what_it_put_into_its_object() -> None:
    wrapper = (
        "from transformers import AutoModel\n"
        "class Wrapper:\n"
        "    def load(self):\n"
        "        self.name = 'some-owner/some-model'\n"
        "        self.model = AutoModel.from_pretrained(self.name)\n"
    )
    assert ("model", "hf:some-owner/some-model") in effects_of(wrapper)
