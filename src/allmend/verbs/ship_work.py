"""The work of `allmend ship`, in order: run, adapter, base, rows, then the making of the release."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from allmend import adapters, data, runs
from allmend.errors import InputError, NotFound, Refused, Unavailable, UsageError
from allmend.models import catalogue, resolve
from allmend.models.loading import load
from allmend.nouns.verdict import Verdict
from allmend.releases import signing
from allmend.releases.gguf.types import checked
from allmend.releases.make import Order, make
from allmend.verbs.tune import TuneSettings
from allmend.verbs.tuning_work import read_dataset

if TYPE_CHECKING:
    from allmend.data import Row
    from allmend.nouns.release import Release
    from allmend.nouns.run import Run
    from allmend.verbs.ship import ShipSettings
    from allmend.verbs.watching import Watch


def folder_of(to: str | None, run: str) -> Path:
    """The folder that a release of `run` is made in."""
    return Path(to or f"release-{run}").expanduser().absolute()


def work(reference: str, settings: ShipSettings, watch: Watch) -> Release:
    """Do it."""
    tuned = runs.show(reference)
    folder = tuned.output(settings.adapter)
    if tuned.verb == "tune" and tuned.settings.get("full"):
        raise Unavailable(
            f"{tuned.id} trained the whole model; only adapters are shipped yet",
            hint=f"Its model is a plain folder that others load: {tuned.output('model')}",
        )
    if tuned.verb != "tune" or folder is None:
        raise UsageError(
            f"{tuned.id} is a run of {tuned.verb} and has no {settings.adapter}",
            hint="Name a run of tune; `allmend runs --verb tune` lists them.",
        )
    if not Path(folder).is_dir():
        raise NotFound("the run's adapter is gone", where=folder)
    target = folder_of(settings.to, tuned.id)
    # What a person wrote is looked at before anything is loaded.
    types = checked(settings.gguf)
    if settings.sign is not None:
        signing.load_key(settings.sign)
    if target.exists():
        raise InputError("there is something of that name already", where=str(target), hint="Name another with --to.")
    weights = adapters.read(folder)
    if weights.template is None:
        raise InputError("no chat template lies beside the adapter, so what was tested is not known", where=folder)
    before = TuneSettings.of(tuned.settings)
    if before.base_bits is not None:
        raise Refused(
            f"it was tuned and tested on the base rounded to {before.base_bits} bits; merged into the base, or put on "
            "it by PEFT or llama.cpp, it would be another model than the one that was tested [requantised]",
            hint="Tune without --base-bits to ship, or serve it from here.",
        )
    rows, labels, splits = _rows(tuned, before, settings)
    watch.stage(f"Loading {before.model}")
    model = resolve(before.model, watch.amount)
    watch.model(model)
    if weights.base_digest and weights.base_digest != model.digest:
        raise InputError(
            f"{before.model} is not the model that the adapter was trained on (SHA-256 {model.digest[:12]}… "
            f"instead of {weights.base_digest[:12]}…)",
            hint="The model behind that name has changed; put the old one back.",
        )
    # In fp32, so that a difference is one of the weights and not of the processor's rounding.
    loaded = load(model, "float32", progress=watch.amount)
    source = next((file for file in tuned.inputs if file.name == "data"), None)
    with runs.record("ship", settings=settings, subject=tuned.id) as run:
        run.input(folder, name="adapter", sha256=weights.digest)
        run.input(model.path, name="model", sha256=model.digest)
        release = make(
            Order(
                run=tuned,
                loaded=loaded,
                weights=weights,
                template=data.read_template(Path(folder)),
                rows=rows,
                labels=labels,
                target=target,
                verdict=_verdict(tuned),
                data=Path(source.path).name if source else "unknown",
                data_digest=source.sha256 if source else None,
                data_licence=_data_licence(source.path) if source else None,
                splits=splits,
                merge=settings.merge,
                gguf=types,
                sign=settings.sign,
                container=settings.container,
                prompts=settings.prompts,
                licence=settings.licence,
                settings=settings.model_dump(mode="json", exclude={"sign", "to"}),
                report_to=run.folder,
                stage=watch.stage,
                amount=watch.amount,
            )
        )
        for step, agreement in enumerate(release.agreements):
            run.metric(step, {f"{agreement.artefact} loss difference": agreement.loss_difference})
        run.output("release", target, sha256=release.artefacts[0].sha256)
    return release


def _verdict(tuned: Run) -> Verdict | None:
    path = tuned.output("verdict")
    if path is None or not Path(path).is_file():
        return None
    try:
        return Verdict.from_json(Path(path).read_text("utf-8"))
    except ValueError:
        raise InputError("the run's verdict cannot be read", where=path) from None


def _rows(
    tuned: Run, before: TuneSettings, settings: ShipSettings
) -> tuple[list[Row], list[str] | None, dict[str, int]]:
    """Rows to compare on, their labels, and how many rows each split had."""
    recorded = next((file for file in tuned.inputs if file.name == "data"), None)
    splits = tuned.choice("splits")
    counts = {str(name): int(count) for name, count in splits.items()} if isinstance(splits, dict) else {}
    if settings.data is not None:
        rows = list(
            data.read_rows(
                settings.data,
                prompt_column=before.prompt_column,
                completion_column=before.completion_column,
                skip_bad=before.skip_bad,
            )
        )
        return rows, data.labels_of(rows), counts
    if recorded is None or recorded.path == "-":
        raise UsageError("the run's rows came from standard input", hint="Name rows to compare on with --data FILE.")
    if not Path(recorded.path).exists():
        raise NotFound("the run's data is gone", where=recorded.path, hint="Name rows to compare on with --data FILE.")
    dataset = read_dataset(recorded.path, before)
    if dataset.examples.sha256 != recorded.sha256:
        raise InputError(
            "the data has changed since the run, so its held-out rows are no longer the same",
            where=recorded.path,
            hint="Name rows to compare on with --data FILE.",
        )
    return dataset.held_out, dataset.labels, counts


def _data_licence(path: str) -> str | None:
    """Known for data of the catalogue, which lies in a folder of its name."""
    entry = catalogue().data.get(Path(path).parent.name)
    return entry.licence if entry is not None and Path(path).stem == Path(path).parent.name else None
