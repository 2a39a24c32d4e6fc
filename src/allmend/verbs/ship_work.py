"""The work of `allmend ship`, in order: run, adapter, base, rows, then the making of the release."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from allmend import adapters, data, runs
from allmend.adapters import AdapterWeights, LoraConfig
from allmend.errors import InputError, NotFound, UsageError
from allmend.models import catalogue, resolve
from allmend.models.loading import Loaded, load
from allmend.models.saving import NOTES, TEMPLATE
from allmend.nouns.verdict import Verdict
from allmend.releases import signing
from allmend.releases.gguf.types import checked
from allmend.releases.make import make
from allmend.releases.order import Order
from allmend.verbs.recorded_rows import check_division, check_held_out, division, held_out_digest
from allmend.verbs.tune import TuneSettings
from allmend.verbs.tuning_rows import read_dataset

if TYPE_CHECKING:
    from allmend.data import Row
    from allmend.nouns.model import Model
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
    whole = tuned.verb == "tune" and bool(tuned.settings.get("full"))
    folder = _folder(tuned, settings, whole)
    target = folder_of(settings.to, tuned.id)
    # What a person wrote is looked at before anything is loaded.
    types = checked(settings.gguf)
    if settings.sign is not None:
        signing.load_key(settings.sign)
    if target.exists():
        raise InputError("there is something of that name already", where=str(target), hint="Name another with --to.")
    weights = _whole(folder) if whole else adapters.read(folder)
    if weights.template is None:
        raise InputError("no chat template lies beside the weights, so what was tested is not known", where=folder)
    before = TuneSettings.of(tuned.settings)
    rows, labels, splits = _rows(tuned, before, settings)
    model, loaded = _loaded(before.model, weights, folder if whole else None, watch)
    source = next((file for file in tuned.inputs if file.name == "data"), None)
    with runs.record("ship", settings=settings, subject=tuned.id) as run:
        run.input(folder, name="model" if whole else "adapter", sha256=weights.digest)
        run.input(model.path, name="base" if whole else "model", sha256=model.digest)
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
                bits=before.base_bits,
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


def _loaded(name: str, weights: AdapterWeights, whole: str | None, watch: Watch) -> tuple[Model, Loaded]:
    """The model that was tuned, and what is tested, in memory.

    Args:
        whole: the folder of the model itself, where all its weights were learned.
    """
    watch.stage(f"Loading {name}")
    model = resolve(name, watch.amount)
    watch.model(model)
    if weights.base_digest and weights.base_digest != model.digest:
        what = "training began with" if whole else "the adapter was trained on"
        raise InputError(
            f"{name} is not the model that {what} (SHA-256 {model.digest[:12]}… "
            f"instead of {weights.base_digest[:12]}…)",
            hint="The model behind that name has changed; put the old one back.",
        )
    # In fp32, so that a difference is one of the weights and not of the processor's rounding.
    loaded = load(resolve(whole) if whole else model, "float32", progress=watch.amount)
    # Of a model whose weights were all learned the origin, its licence and its name are still those of its base.
    return model, replace(loaded, about=model)


def _folder(tuned: Run, settings: ShipSettings, whole: bool) -> str:
    """Where what was learned lies: an adapter, or a whole model."""
    name = settings.adapter.replace("adapter", "model", 1) if whole else settings.adapter
    folder = tuned.output(name)
    if tuned.verb != "tune" or folder is None:
        raise UsageError(
            f"{tuned.id} is a run of {tuned.verb} and has no {name}",
            hint="Name a run of tune; `allmend runs --verb tune` lists them.",
        )
    if not Path(folder).is_dir():
        raise NotFound(f"the run's {'model' if whole else 'adapter'} is gone", where=folder)
    return folder


def _whole(folder: str) -> AdapterWeights:
    """A model whose weights were all learned, as base and an adapter without modules: nothing is added to it."""
    place = Path(folder)
    try:
        notes = json.loads((place / NOTES).read_text("utf-8"))
        base, digest, name = str(notes["base"]), str(notes["base_digest"]), str(notes["template"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"what the run wrote beside the model cannot be read: {error}", where=str(place)) from None
    template = place / TEMPLATE
    return AdapterWeights(
        folder=place,
        config=LoraConfig(),
        base=base,
        base_digest=digest,
        digest=resolve(folder).digest,
        modules={},
        alphas={},
        template=template.read_text("utf-8") if template.is_file() else None,
        template_name=name,
    )


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
    check_held_out(dataset.examples, held_out_digest(tuned), "Name rows to compare on with --data FILE.")
    check_division(dataset, division(tuned), "Name rows to compare on with --data FILE.")
    return dataset.held_out, dataset.labels, counts


def _data_licence(path: str) -> str | None:
    """Known for data of the catalogue, which lies in a folder of its name."""
    entry = catalogue().data.get(Path(path).parent.name)
    return entry.licence if entry is not None and Path(path).stem == Path(path).parent.name else None
