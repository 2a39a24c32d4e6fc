"""The tour's first step: a notebook is planned, run in the box, and gives its receipt."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import shutil
import zipfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import allmend
from allmend.errors import AllmendError
from allmend.home import home, root

if TYPE_CHECKING:
    from allmend.nouns.receipt import Receipt
    from allmend.verbs.watching import Watch

NAME = "make_it_yours.ipynb"


def example() -> Path:
    """The notebook: in the package when installed from a wheel, beside the sources in a checkout."""
    package = Path(allmend.__file__).parent
    inside = package / "examples" / NAME
    return inside if inside.is_file() else package.parents[1] / "examples" / NAME


def run_in_the_box(watch: Watch) -> Receipt | None:
    """Plan the notebook, run it in the box and return the receipt; None, with the reason said, where it cannot run.

    The model and the data must be here: the notebook gets them as folders to read, and no host at all.
    """
    from allmend.box import levels
    from allmend.verbs import run as verb

    watch.stage("A notebook first: planned, held to its plan, with a receipt")
    try:
        level, why = levels.choose(None)
    except AllmendError as error:
        watch.note(f"Skipped: no box is possible here ({error.message}). `allmend doctor` says how to get one.")
        return None
    if level != "A":
        watch.note(f"Skipped: the notebook needs level A, and this machine has level {level} ({'; '.join(why)}).")
        return None
    if not example().is_file():
        watch.note("Skipped: this installation has no examples.")
        return None
    folder = home("tour")
    notebook = folder / NAME
    shutil.copyfile(example(), notebook)
    for old in folder.glob("*.whl"):
        old.unlink()
    wheel = own_wheel(folder)
    shared = [f"read:{root() / part}" for part in ("models", "data", "converted")]
    settings = verb.RunSettings.of(
        {
            # The box shows granted folders under /data.
            "parameters": ("shared=/data",),
            "allow": (*shared, f"read:{wheel.name}"),
            "yes": True,
            "profile": "this",
            "output": folder / "make_it_yours-run",
        }
    )
    prepared = verb.prepare(notebook, settings)
    kinds = Counter(effect.kind for effect in prepared.plan.effects)
    found = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "nothing beyond its own cells"
    watch.note(f"plan: {found}; {len(prepared.plan.findings)} findings; hosts: {len(prepared.plan.hosts)}")
    receipt = verb.carry_out(prepared, verb.agreed(prepared))
    _tell(receipt, prepared.folder, watch)
    return receipt


def _tell(receipt: Receipt, folder: Path, watch: Watch) -> None:
    watch.note(f"ran: {receipt.ended}; {receipt.enforcement.name} (level {receipt.enforcement.level})")
    document = (folder / NAME).read_text("utf-8")
    import nbformat

    for cell in nbformat.reads(document, as_version=4).cells:
        for output in cell.get("outputs", ()):
            if output.get("output_type") == "stream" and output.get("name") == "stdout":
                watch.note("| " + output["text"].strip().splitlines()[-1])
    if receipt.ended != "finished":
        watch.note(f"It ended early: {receipt.ended_why}")
    refused = sorted({event.target for event in receipt.events if event.verdict == "denied"})
    seconds = f"{receipt.seconds:.0f} s"
    watch.note(f"{seconds}; hosts reached: {len(receipt.hosts)}; refused: {', '.join(refused) or 'nothing'}")
    watch.note(f"receipt: {folder / 'receipt.html'}")


def own_wheel(folder: Path) -> Path:
    """This very allmend as a wheel in `folder`: its Python files as they are here, and its metadata.

    Wheels are zip files (PyPA binary distribution format); allmend is pure Python, so there is nothing to build.
    """
    from importlib.metadata import distribution

    package = Path(allmend.__file__).parent
    name = f"allmend-{allmend.__version__}"
    about = f"{name}.dist-info"
    metadata = distribution("allmend").read_text("METADATA") or "Metadata-Version: 2.1\nName: allmend\n\n"
    files = {f"allmend/{path.relative_to(package).as_posix()}": path.read_bytes() for path in _sources(package)}
    files[f"{about}/METADATA"] = metadata.encode()
    files[f"{about}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: allmend\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = io.StringIO()
    lines = csv.writer(record, lineterminator="\n")
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.writerow([path, f"sha256={digest}", len(content)])
    lines.writerow([f"{about}/RECORD", "", ""])
    files[f"{about}/RECORD"] = record.getvalue().encode()
    target = folder / f"{name}-py3-none-any.whl"
    hidden = target.with_suffix(".new")
    with zipfile.ZipFile(hidden, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
    hidden.replace(target)
    return target


def _sources(package: Path) -> list[Path]:
    return sorted(path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
