"""From a run to a release that others can load, or a refusal that leaves nothing behind."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest
import small
from safetensors.torch import load_file

from allmend import runs
from allmend.errors import DoesNotFit, InputError, NotFound, Refused, UsageError
from allmend.models import resolve
from allmend.nouns.release import Release
from allmend.nouns.verdict import ChangedRow, Forgetting, Measure, NormResult, Norms, Verdict
from allmend.releases import make as making
from allmend.releases.licences import GEMMA_NOTICE
from allmend.releases.opened import Served, served
from allmend.releases.parity import thresholds
from allmend.releases.signing import make_key
from allmend.verbs.plan import plan
from allmend.verbs.ship import ship, verify

GEMMA3 = {
    "num_hidden_layers": 6,
    "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
    "query_pre_attn_scalar": 8,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": None},
    "qwen2": {"vocab_size": 328},
    "qwen3": {},
    "gemma2": {"query_pre_attn_scalar": 8},
    "gemma3": GEMMA3,
}  # fmt: skip


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_ships_in_every_form(place: Path, kind: str) -> None:
    run = small.run(place, kind, **FAMILIES[kind])
    release = ship(run, merge=True, gguf="q8_0", to=place / "out", prompts=4)
    assert {artefact.name for artefact in release.artefacts} == {
        "adapter", "merged", "gguf-q8_0", "gguf-adapter",
    }  # fmt: skip
    assert {found.artefact for found in release.agreements} == {artefact.name for artefact in release.artefacts}
    for found in release.agreements:
        assert found.passed and found.ids_equal == found.template_equal == found.rows == 4, found
    assert verify(place / "out").problems == []


@pytest.fixture
def run(place: Path) -> str:
    return small.run(place)


def test_the_adapter_alone_is_a_release(place: Path, run: str) -> None:
    release = ship(run, to=place / "out", prompts=3)
    assert [artefact.name for artefact in release.artefacts] == ["adapter"]
    assert {found.consumer.split()[0] for found in release.agreements} == {"allmend", "PEFT"}
    assert Release.from_json((place / "out" / "release.json").read_text()) == release
    card = (place / "out" / "README.md").read_text()
    assert "Forgetting (what the base could do before) was not measured" in card
    assert "Norms of behaviour were not measured" in card
    assert "Not judged" in card and "Not tested" in card and release.base_digest in card
    assert (place / "out" / "licence" / "LICENSE").read_text() == small.TERMS


def test_nothing_of_this_machine_leaves(place: Path, run: str) -> None:
    ship(run, merge=True, gguf="bf16", container=True, to=place / "out", prompts=2)
    for path in (place / "out").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(place).encode() not in content, path
            assert b"is red green?" not in content, path  # rows of the data stay at home
    report = json.loads((Path(runs.show("last:ship").folder) / "parity.json").read_text())
    assert report["rows"][0]["prompt"].startswith("User: ")


def judged(place: Path) -> Verdict:
    """A verdict with everything in it that must stay at home."""
    row = ChangedRow(
        place=f"{place}/rows.jsonl:7", prompt="7: is green green?", expected="no", base="no", tuned="a secret"
    )
    measure = {"name": "own", "base": 0.5, "tuned": 0.9, "difference": 0.4, "rows": 6}
    norm = NormResult(
        name="polite", kind="must", how="pattern: .", asked=6, base_held=3, tuned_held=5, undecided=1, broken=[row]
    )
    return Verdict(
        words="better", metric="own", held_out_rows=6, gained_examples=[row], lost_examples=[row],
        measures=[Measure(**measure, failed=1, faults=[f"{place}/rows.jsonl:7: 7: is green green?"])],
        model=str(place / "base"), adapter=str(place / "adapter"), template="plain", data=str(place / "rows.jsonl"),
        norms=Norms(file="private/customers/norms.toml", sha256="0" * 64, results=[norm]),
        forgetting=Forgetting(
            measures=[Measure(**{**measure, "name": "general_loss"}, faults=[f"{place}/rows.jsonl:7"])],
            words="some was lost", sources=["somewhere"],
        ),
    )  # fmt: skip


def test_no_row_and_no_folder_leaves_with_the_verdict(place: Path) -> None:
    verdict = judged(place)
    ship(small.run(place, verdict=verdict), to=place / "out", prompts=2)
    for path in (place / "out").rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for kept in (str(place), "private/customers", "is green green", "a secret"):
            assert kept.encode() not in content, (path, kept)
    card = (place / "out" / "README.md").read_text()
    assert "some was lost: general_loss 0.500 → 0.900" in card and "not measured" not in card
    assert "must: polite: kept in 5 of 6 answers (by the base in 3), 1 undecided" in card
    found = Verdict.from_json((place / "out" / "verdict.json").read_text())
    assert found.norms is not None and found.norms.file == "norms.toml"
    assert found.norms.results[0].tuned_held == 5 and found.measures[0].failed == 1
    assert verdict == judged(place)  # what is kept of the run still has them


def left(place: Path) -> list[str]:
    """What lies beside the target that was not there before."""
    return sorted(path.name for path in place.iterdir() if "out" in path.name)


def test_a_refusal_names_the_cause_and_leaves_nothing(place: Path, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = making.merge

    def without_scale(base: Path, weights: Any, target: Path, report: Any) -> None:
        from dataclasses import replace

        real(base, replace(weights, alphas=dict.fromkeys(weights.alphas, 4.0)), target, report)

    monkeypatch.setattr(making, "merge", without_scale)
    with pytest.raises(Refused, match=r"merged is not what was tested: .*0\.50 times its strength \[alpha\]") as caught:
        ship(run, merge=True, to=place / "out", prompts=3)
    assert left(place) == []
    kept = Path(str(caught.value.hint).partition("whole report: ")[2].rstrip("."))
    assert json.loads(kept.read_text())["breaches"][0]["cause"] == "alpha"
    assert runs.show("last:ship").state == "failed"


def test_an_interruption_leaves_nothing(place: Path, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(making.listing, "write_sums", stop)
    with pytest.raises(KeyboardInterrupt):
        ship(run, merge=True, gguf="bf16", to=place / "out", prompts=2)
    assert left(place) == []


def test_a_full_disk_is_said_in_words_and_leaves_nothing(
    place: Path, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    usage = shutil.disk_usage(place)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(DoesNotFit, match="MiB are free"):
        ship(run, merge=True, to=place / "out", prompts=2)
    assert left(place) == []


def test_a_disk_that_fills_up_while_writing_leaves_nothing(place: Path) -> None:
    run = small.run(place, hidden_size=256, intermediate_size=512)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(DoesNotFit, match="the disk took no more"):
            ship(run, merge=True, gguf="f16", to=place / "out", prompts=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert left(place) == []


def test_a_place_that_cannot_be_written_is_said(place: Path, run: str) -> None:
    (place / "file").write_text("")
    with pytest.raises(InputError, match="the release could not be made"):
        ship(run, to=place / "file" / "out", prompts=2)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"gguf": "q4_k_n"}, UsageError, "no GGUF type 'q4_k_n'"),
        ({"gguf": "int4"}, UsageError, "no GGUF type"),
        ({"sign": "nowhere.pem"}, NotFound, "no such key"),
        ({"licence": "nowhere.txt"}, InputError, "no such licence"),
        ({"adapter": "adapter-last"}, UsageError, "has no adapter-last"),
        ({"data": "nowhere.csv"}, NotFound, "nowhere.csv"),
    ],
)
def test_bad_settings_are_said_before_any_work(
    place: Path, run: str, settings: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        ship(run, to=place / "out", **settings)
    assert left(place) == []


def test_what_lies_there_is_not_written_over(place: Path, run: str) -> None:
    (place / "out").mkdir()
    with pytest.raises(InputError, match="something of that name already"):
        ship(run, to=place / "out")


def test_a_base_that_is_gone_or_another_is_refused(place: Path, run: str) -> None:
    import shutil

    shutil.rmtree(place / "base")
    with pytest.raises(NotFound):
        ship(run, to=place / "out")
    small.base(place / "base", seed=5)
    with pytest.raises(InputError, match="is not the model that the adapter was trained on"):
        ship(run, to=place / "out")
    assert left(place) == []


def test_data_that_changed_is_refused_and_other_rows_can_be_named(place: Path, run: str) -> None:
    with (place / "rows.jsonl").open("a") as out:
        out.write(json.dumps({"prompt": "more?", "completion": "no"}) + "\n")
    with pytest.raises(InputError, match="data has changed"):
        ship(run, to=place / "out")
    release = ship(run, to=place / "out", data=small.rows(place / "others.jsonl", 12), prompts=3)
    assert release.agreements[0].rows == 3


def test_a_quantised_base_is_not_merged(place: Path, run: str) -> None:
    from allmend.releases.merge import refuse_quantised

    config = place / "base" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(Refused, match="stored as gptq"):
        refuse_quantised(place / "base")


def test_gemma_s_terms_travel_or_nothing_does(place: Path) -> None:
    run = small.run(place, "gemma3", **GEMMA3)
    ship(run, to=place / "out", prompts=2)
    assert GEMMA_NOTICE in (place / "out" / "NOTICE").read_text()
    assert (place / "out" / "licence" / "LICENSE").is_file()
    assert "license: gemma" in (place / "out" / "README.md").read_text()
    (place / "base" / "LICENSE").unlink()
    with pytest.raises(Refused, match="terms and use restrictions must be passed on"):
        ship(run, to=place / "out2", prompts=2)
    (place / "terms.txt").write_text(small.TERMS)
    ship(run, to=place / "out2", prompts=2, licence=place / "terms.txt")
    assert (place / "out2" / "licence" / "terms.txt").is_file()
    (place / "out2" / "NOTICE").unlink()
    assert any("NOTICE" in problem for problem in verify(place / "out2").problems)


def test_a_release_can_be_planned(place: Path, run: str) -> None:
    ship(run, merge=True, to=place / "out", prompts=2)
    found = plan(place / "out")
    assert found.needs.memory_bytes and any("release of base" in line for line in found.needs.why)
    assert any("allmend ship verify" in unread.reason for unread in found.unread)


@pytest.mark.parametrize("merge", [True, False])
def test_a_release_can_be_served(place: Path, run: str, merge: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    from allmend.verbs.serve import start

    monkeypatch.chdir(place)  # the base of this release is the folder `base`
    release = ship(run, merge=merge, to=place / "out", prompts=2)
    with start(str(place / "out"), port=0, dtype="float32") as server:
        listed = httpx.get(f"{server.url}/v1/models", timeout=60).json()["data"]
        name = listed[-1]["id"]
        body = {"model": name, "messages": [{"role": "user", "content": "0: is red red?"}], "max_tokens": 4}
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60).json()
    assert answer["usage"]["completion_tokens"] >= 1
    if not merge:
        assert name == release.name


def test_a_signed_release_says_who_signed(place: Path, run: str) -> None:
    public = make_key(place / "key.pem")
    release = ship(run, sign=place / "key.pem", to=place / "out", prompts=2)
    assert release.signed and (place / "key.pem").stat().st_mode & 0o077 == 0
    found = verify(place / "out", key=public)
    assert found.problems == [] and found.signer


def test_a_dora_ships_merged_and_not_as_a_gguf_adapter(place: Path) -> None:
    release = ship(small.run(place, dora=True), merge=True, gguf="bf16", to=place / "out", prompts=3)
    assert [artefact.name for artefact in release.artefacts] == ["adapter", "merged", "gguf-bf16"]
    assert any("DoRA" in note for note in release.notes)
    assert all(found.passed for found in release.agreements)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_run_that_learned_all_weights_ships_them(place: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small.whole_run(place, kind, **FAMILIES[kind])
    out = place / "out"
    release = ship(run, gguf="f16,q8_0", container=True, to=out, prompts=3)
    assert [artefact.name for artefact in release.artefacts] == ["model", "gguf-f16", "gguf-q8_0"]
    assert all(found.passed and found.ids_equal == found.rows for found in release.agreements)
    learned = load_file(Path(runs.show(run).output("model") or "") / "model.safetensors")
    shipped = load_file(out / "model" / "model.safetensors")
    assert shipped.keys() == learned.keys() and all(shipped[name].equal(learned[name]) for name in learned)
    assert release.adapter_digest is None and release.base_digest == resolve(str(place / "base")).digest
    card = (out / "README.md").read_text()
    assert "All weights were learned" in card and "LoRA" not in card and "library_name: transformers" in card
    statement = json.loads((out / "lineage.intoto.json").read_text())
    assert {"model/model.safetensors"} <= {subject["name"] for subject in statement["subject"]}
    dependencies = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert dependencies[0]["digest"]["sha256"] == release.base_digest
    assert verify(out).problems == []
    assert served(str(out)) == Served(str(out / "model"))


def test_a_model_that_changed_after_its_run_is_another(place: Path) -> None:
    run = small.whole_run(place)
    (Path(runs.show(run).output("model") or "") / "allmend.json").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        ship(run, to=place / "out")
    assert left(place) == []


@pytest.mark.parametrize("bits", [8, 4])
def test_what_was_tested_on_a_rounded_base_leaves_for_the_base_itself_with_its_cost(place: Path, bits: int) -> None:
    release = ship(small.run(place, bits=bits), merge=True, gguf="q8_0", to=place / "out", prompts=8)
    found = {agreement.artefact: agreement for agreement in release.agreements}
    assert found["merged"].loss_difference > 1e-4  # what was tested is not quite this
    assert found["merged"].allowed_mean == thresholds.BASE_ROUNDED[bits].mean
    assert any(f"tested on the base rounded to {bits} bits" in note for note in release.notes)
    assert f"rounded to {bits} bits" in (place / "out" / "README.md").read_text()


def test_where_the_rounded_base_was_another_model_nothing_leaves(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(thresholds.BASE_ROUNDED, 4, thresholds.Limit(1e-6, 1e-6))
    monkeypatch.setitem(thresholds.LIMITS, "bf16", thresholds.Limit(1e-6, 1e-6))
    with pytest.raises(Refused, match=r"rounded to 4 bits, and on the base itself it answers otherwise \[rounded\]"):
        ship(small.run(place, bits=4), merge=True, to=place / "out")
    assert left(place) == []
