"""Same, close or different: what counts as which."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from world import World, notebook

from allmend import runs
from allmend.errors import NotFound, Refused
from allmend.locking.outputs import compare, images, texts
from allmend.verbs.lock import lock
from allmend.verbs.replay_notebook import replay_notebook
from allmend.verbs.run import run


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        ("loss 0.5", "loss 0.5", "same"),
        ("loss 0.50000", "loss 0.50001", "close"),
        ("loss 0.5", "loss 0.6", "different"),
        ("1,234,567 rows", "1,234,568 rows", "close"),
        ("<A object at 0x7f12ab34cd>", "<A object at 0x7f9999aaaa>", "close"),
        ("a cat", "a dog", "different"),
        ("loss nan", "loss nan", "same"),
        ("loss nan", "loss 0.1", "different"),
        ("v2 model3", "v2 model4", "different"),
        ("x = 1e-5", "x = 1.0001e-05", "close"),
        ("1 2", "1 2 3", "different"),
    ],
)
def test_texts(first: str, second: str, alike: str) -> None:
    assert texts(first, second)[0] == alike
    assert texts(second, first)[0] == alike


@given(st.text(max_size=60), st.text(max_size=60))
def test_texts_are_the_same_only_when_they_are(first: str, second: str) -> None:
    assert (texts(first, second)[0] == "same") == (first == second)


def picture(shift: int = 0, colour: str = "red", size: int = 200, kind: str = "PNG") -> bytes:
    image = Image.new("RGB", (size, size), "white")
    ImageDraw.Draw(image).ellipse((40 + shift, 40, 160 + shift, 160), fill=colour)
    made = io.BytesIO()
    image.save(made, kind, quality=95, subsampling=0)
    return made.getvalue()


def test_images() -> None:
    assert images(picture(), picture())[0] == "same"
    assert images(picture(), picture(colour="#fe0101"))[0] == "close"
    assert images(picture(kind="PNG"), picture(kind="JPEG"))[0] == "close"
    assert images(picture(), picture(shift=30))[0] == "different"
    assert images(picture(), picture(colour="green"))[0] == "different"
    assert images(picture(), picture(size=100))[1] == "200 by 200 pixels became 100 by 100"
    assert images(picture(), b"no image")[0] == "different"


def cells(*outputs: list[dict]) -> dict:
    return {"cells": [{"cell_type": "code", "source": "", "outputs": one} for one in outputs]}


def stream(*parts: str) -> list[dict]:
    return [{"output_type": "stream", "name": "stdout", "text": part} for part in parts]


def shown(**data: str) -> list[dict]:
    named = {name.replace("_", "/"): value for name, value in data.items()}
    return [{"output_type": "display_data", "data": named, "metadata": {}}]


def test_notebooks_as_a_whole_are_as_alike_as_their_worst_output() -> None:
    png = base64.b64encode(picture()).decode()
    first = cells(stream("a\n", "b\n"), shown(image_png=png))
    assert compare(first, cells(stream("a\nb\n"), shown(image_png=png)), ("1", "2")).alike == "same"
    near = base64.b64encode(picture(colour="#fd0202")).decode()
    assert compare(first, cells(stream("a\nb\n"), shown(image_png=near)), ("1", "2")).alike == "close"
    found = compare(first, cells(stream("a\nc\n"), shown(image_png=near)), ("1", "2"))
    assert found.alike == "different" and found.outputs[0].why == "'b' became 'c'"
    assert compare(first, cells(stream("a\nb\n"), []), ("1", "2")).outputs[1].why == "only the first run has it"
    odd = cells(shown(application_x="1"))
    found = compare(odd, cells(shown(application_x="2")), ("1", "2"))
    assert found.alike == "different" and found.not_compared


def test_files_are_compared_too(tmp_path: Path) -> None:
    for name, number, colour in (("a", "0.5", "red"), ("b", "0.500001", "#fe0101")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.csv").write_text(f"loss,{number}\n")
        (tmp_path / name / "x.png").write_bytes(picture(colour=colour))
    found = compare(cells(), cells(), ("1", "2"), folders=(tmp_path / "a", tmp_path / "b"))
    assert found.alike == "close" and [one.where for one in found.outputs] == ["x.csv", "x.png"]
    (tmp_path / "b" / "more.bin").write_bytes(b"1")
    assert compare(cells(), cells(), ("1", "2"), folders=(tmp_path / "a", tmp_path / "b")).alike == "different"


def test_a_run_replays_held_to_its_lock(world: World, tmp_path: Path) -> None:
    world.package("aaa", "1.0")
    world.file("http://files.test/n.txt", b"5")
    path = notebook(
        tmp_path / "nb.ipynb",
        "scale = 1.0  #@param {type:'number'}",
        "!pip install -q aaa\n!wget -q http://files.test/n.txt",
        "import aaa, os\nprint(aaa.__version__, scale * float(open('n.txt').read()))\n"
        "os.makedirs('outputs', exist_ok=True)\nopen('outputs/x.txt', 'w').write(str(scale))",
        "import time\nprint('moment', 1 + time.time_ns() % 7 * 1e-9)",
    )
    lock(path, profile="this")
    run(path, locked=True, yes=True, parameters=["scale=2.0"])
    world.package("aaa", "2.0")
    world.file("http://files.test/n.txt", b"7")
    earlier = runs.show("last:run")
    found = replay_notebook(earlier)
    assert found.alike in ("same", "close"), found
    assert {one.where: one.alike for one in found.outputs}["outputs/x.txt"] == "same"
    assert json.loads((tmp_path / "nb-replay" / "receipt.json").read_text())["parameters"] == {"scale": 2.0}
    data = json.loads(path.read_text())
    data["cells"][3]["source"] = "print('edited')"
    path.write_text(json.dumps(data))
    with pytest.raises(Refused, match="edited since"):
        replay_notebook(earlier)
    path.unlink()
    with pytest.raises(NotFound, match="not there any more"):
        replay_notebook(earlier)


def test_a_run_without_a_lock_is_told_how_to_get_one(world: World, tmp_path: Path) -> None:
    path = notebook(tmp_path / "nb.ipynb", "print(1)")
    run(path, yes=True, profile="this")
    earlier = runs.show("last:run")
    with pytest.raises(NotFound, match="allmend lock"):
        replay_notebook(earlier)
    lock(path, profile="this")
    assert replay_notebook(earlier).alike == "same"
