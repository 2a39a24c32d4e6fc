"""`upload` takes the files given with `--upload`; `download` marks a file as an output."""

import os
import shutil

from google.colab import _box


def upload(target_dir: str = "") -> dict:
    """Copy the given files into the working folder; returns name to bytes."""
    given = _box.ask("uploads")["files"]
    if not given:
        raise FileNotFoundError("files.upload: no file was given; run with --upload FILE")
    found = {}
    for path in given:
        name = os.path.basename(path)
        target = os.path.join(target_dir or os.getcwd(), name)
        shutil.copyfile(path, target)
        with open(target, "rb") as file:
            found[name] = file.read()
        print(f"Saving {name} to {name}")
    return found


def upload_file(filename: str) -> None:
    """Save one given file under `filename`."""
    uploaded = upload()
    first = next(iter(uploaded))
    if first != filename:
        os.replace(first, filename)


def download(filename: str) -> None:
    """Put a file among the run's outputs."""
    path = os.path.abspath(filename)
    if not os.path.exists(path):
        raise FileNotFoundError(f"Cannot find file: {filename}")
    _box.ask("download", path=path)


def view(filepath: str) -> None:
    """There is no page to show it in."""
    print(f"{filepath}: files.view has no page to show it in here")
