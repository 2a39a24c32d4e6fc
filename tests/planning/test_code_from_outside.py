"""Text that one line fetches and another runs is listed as foreign code, in every spelling of it."""

from __future__ import annotations

import pytest
from notebook_cells import effects_of

URL = "https://code.example/setup.sh"


@pytest.mark.parametrize(
    "line",
    [
        f"!curl -fsSL {URL} | bash",
        f'!bash -c "$(curl -fsSL {URL})"',
        f"!bash <(curl -s {URL})",
        f"!source <(curl {URL})",
        f'!eval "$(wget -qO- {URL})"',
        f"!python <(curl {URL})",
        f"%run {URL}",
    ],
)
def test_fetched_text_that_a_shell_runs(line: str) -> None:
    assert ("foreign_code", URL) in effects_of(line)


@pytest.mark.parametrize(
    "fetch",
    ["!wget https://code.example/tricks.py", "!curl -O https://code.example/tricks.py", "!wget -O tricks.py https://code.example/x",
     "import urllib.request\nurllib.request.urlretrieve('https://code.example/t', 'tricks.py')"],
)  # fmt: skip
def test_a_fetched_module_that_is_imported(fetch: str) -> None:
    assert ("foreign_code", "tricks") in effects_of(fetch, "from tricks import one")
    assert not [kind for kind, _ in effects_of(fetch, "import json") if kind == "foreign_code"]


def test_a_downloaded_archive_of_data_makes_no_import_foreign() -> None:
    assert "foreign_code" not in {
        k for k, _ in effects_of("!wget https://d.example/data.zip && unzip data.zip", "import numpy, data_tools")
    }


def test_downloads_from_cloud_storage_name_bucket_and_key() -> None:
    made = effects_of(
        "import boto3\nname = 'heap'\nboto3.client('s3').download_file(name, 'a/b.bin', 'b.bin')",
        "from google.cloud import storage\nstorage.Client().bucket('pile').blob('c.bin').download_to_filename('c.bin')",
        "boto3.resource('s3').Bucket('barn').download_file('d.bin', 'd.bin')",
    )
    assert {("download", "s3://heap/a/b.bin"), ("download", "gs://pile/c.bin"), ("download", "s3://barn/d.bin")} <= made


def test_a_plain_connection_out_is_a_send_and_one_to_this_machine_is_nothing() -> None:
    code = "import socket\ns = socket.socket()\ns.connect(({!r}, 4444))"
    assert ("send", "far.example") in effects_of(code.format("far.example"))
    assert not effects_of(code.format("127.0.0.1"))


def test_pip_called_in_process_starts_no_program() -> None:
    assert effects_of("import pip\npip.main(['install', 'thing==1'])") == {("install", "pip:thing")}
