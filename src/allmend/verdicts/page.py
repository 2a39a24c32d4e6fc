"""A verdict, a comparison or a table of benchmarks as one HTML file: no scripts, nothing fetched, all words escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from allmend.nouns.benchmarks import Benchmarks, Score
from allmend.nouns.verdict import ChangedRow, Comparison, Forgetting, Measure, Norms, Verdict

_STYLE = """
:root{color-scheme:light dark;--good:#1a7f37;--bad:#cf222e;--open:#9a6700}
@media(prefers-color-scheme:dark){:root{--good:#3fb950;--bad:#ff7b72;--open:#d29922}}
body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.05rem;margin:2rem 0 .5rem}p{margin:.4rem 0}
table{border-collapse:collapse;width:100%}th{font-weight:500;opacity:.7;text-align:left}
td,th{padding:.3rem .8rem .3rem 0;vertical-align:top;border-bottom:1px solid #8883}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.dim{opacity:.7}.better,.holds{color:var(--good)}.worse,.broken{color:var(--bad)}.open{color:var(--open)}
.wide{overflow-x:auto}svg{display:block}q{quotes:none}li{margin:.2rem 0}
"""
_CLASSES = {"better": "better", "worse": "worse", "not shown to be better": "open"}


def write(result: Verdict | Comparison | Benchmarks, path: Path) -> None:
    """Write the page; it appears by rename."""
    hidden = path.with_name(f".{path.name}.new")
    hidden.write_text(page(result), "utf-8")
    hidden.replace(path)


def page(result: Verdict | Comparison | Benchmarks) -> str:
    """The page of any of the three."""
    if isinstance(result, Verdict):
        return _document(f"Verdict on {result.run or result.adapter}", _verdict(result))
    if isinstance(result, Comparison):
        return _document(f"{len(result.values) - 1} runs compared", _comparison(result))
    return _document(f"Benchmarks of {len(result.models)} models", _benchmarks(result))


def _document(title: str, parts: Iterable[str]) -> str:
    head = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
    ]
    return "\n".join([*head, *(part for part in parts if part)]) + "</html>\n"


def _verdict(verdict: Verdict) -> list[str]:
    main = verdict.main
    parts = [
        f"<h1>The tuned model is <span class={_CLASSES[verdict.words]}>{verdict.words}</span>.</h1>",
        f"<p>{escape(main.name)} {main.base:.3f} → {main.tuned:.3f}, difference {main.difference:+.3f} "
        f"({verdict.confidence:.0%} interval {_interval(main.low, main.high)}, {escape(verdict.interval)}) on "
        f"{main.rows} rows that neither training nor selection saw.</p>",
        f"<p class=dim>{escape(verdict.model)} · {escape(verdict.run or verdict.adapter)} · "
        f"{escape(verdict.data)} · template {escape(verdict.template)}</p>",
    ]
    if verdict.few_shot_words is not None:
        parts.append(
            f"<p>Against the untuned model with {verdict.few_shot} examples in its prompt it is "
            f"<b class={_CLASSES[verdict.few_shot_words]}>{verdict.few_shot_words}</b>.</p>"
        )
    if verdict.rows_needed:
        parts.append(f"<p>About {verdict.rows_needed:,} rows would be needed to tell a difference of this size.</p>")
    parts += ["<h2>Figures</h2>", _measures(verdict.measures)]
    parts += [_faults(measure) for measure in verdict.measures if measure.failed]
    if verdict.gained or verdict.lost:
        test = f" (p = {verdict.p_value:.2g})" if verdict.p_value is not None else ""
        parts.append(f"<h2>{verdict.gained} rows became better, {verdict.lost} became worse{test}</h2>")
        parts.append(_rows([("better", verdict.gained_examples), ("worse", verdict.lost_examples)]))
    if verdict.norms is not None:
        parts += _norms(verdict.norms)
    if verdict.forgetting is not None:
        parts += _forgetting(verdict.forgetting)
    return [*parts, _notes(verdict.notes)]


def _measures(measures: Sequence[Measure]) -> str:
    few = any(measure.few_shot is not None for measure in measures)
    lines = [
        "<div class=wide><table><tr><th>metric<th class=n>untuned"
        + ("<th class=n>with examples" if few else "")
        + "<th class=n>tuned<th class=n>difference<th class=n>interval<th><th class=n>rows"
    ]
    for measure in measures:
        shot = "—" if measure.few_shot is None else f"{measure.few_shot:.3f}"
        lines.append(
            f"<tr><td>{escape(measure.name)}<br><span class=dim>{escape(measure.how)}</span>"
            f"<td class=n>{measure.base:.3f}"
            + (f"<td class=n>{shot}" if few else "")
            + f"<td class=n>{measure.tuned:.3f}<td class=n>{measure.difference:+.3f}"
            f"<td class=n>{_interval(measure.low, measure.high)}<td>{_whisker(measure)}<td class=n>{measure.rows}"
        )
    return "\n".join(lines) + "</table></div>"


def _whisker(measure: Measure) -> str:
    """The interval as a line with zero marked; to the right is better."""
    if measure.low is None or measure.high is None:
        return ""
    sign = 1 if measure.higher_is_better else -1
    low, high = sorted((sign * measure.low, sign * measure.high))
    most = max(abs(low), abs(high)) or 1.0

    def at(value: float) -> float:
        return round(60 + 55 * value / most, 1)

    tested = measure.p_value is None or measure.p_value <= 0.05
    colour = "--good" if low > 0 and tested else "--bad" if high < 0 and tested else "--open"
    words = "right of the mark is better"
    return (
        f'<svg width="120" height="18" role="img" aria-label="{words}"><title>{words}</title>'
        f'<path d="M60 2V16" stroke="currentColor" opacity=".4"/>'
        f'<path d="M{at(low)} 9H{at(high)}" stroke="var({colour})" stroke-width="3"/>'
        f'<circle cx="{at(sign * measure.difference)}" cy="9" r="4" fill="var({colour})"/></svg>'
    )


def _faults(measure: Measure) -> str:
    listed = "".join(f"<li>{escape(fault)}" for fault in measure.faults)
    name = escape(measure.name)
    return f"<p class=open>{name} gave no number for {measure.failed} rows, which are left out:</p><ul>{listed}</ul>"


def _rows(groups: Sequence[tuple[str, Sequence[ChangedRow]]]) -> str:
    lines = ["<div class=wide><table><tr><th><th>prompt<th>expected<th>untuned<th>tuned"]
    for how, rows in groups:
        for row in rows:
            lines.append(
                f"<tr><td class={how}>{how}<td>{escape(row.prompt)}<br><span class=dim>{escape(row.place)}</span>"
                f"<td>{escape(row.expected)}<td>{escape(row.base)}<td>{escape(row.tuned)}"
            )
    return "\n".join(lines) + "</table></div>"


def _norms(norms: Norms) -> list[str]:
    broken = norms.broken
    title = f"{len(broken)} of {len(norms.results)} norms are broken" if broken else "All norms hold"
    lines = [
        f"<h2 class={'broken' if broken else 'holds'}>{title}</h2><p class=dim>{escape(norms.file)}</p>"
        "<div class=wide><table><tr><th>norm<th>decided by<th class=n>untuned<th class=n>tuned<th class=n>answers"
    ]
    for result in norms.results:
        kind = "must" if result.kind == "must" else "must not"
        open_ = f" <span class=open>({result.undecided} undecided)</span>" if result.undecided else ""
        colour = "holds" if result.holds else "broken"
        lines.append(
            f"<tr><td>{kind}: {escape(result.name)}{open_}<td><code>{escape(result.how)}</code>"
            f"<td class=n>{result.base_held}<td class='n {colour}'>{result.tuned_held}<td class=n>{result.asked}"
        )
    shown = [("broken", result.broken) for result in broken]
    return ["\n".join(lines) + "</table></div>", _rows(shown) if broken else ""]


def _forgetting(forgetting: Forgetting) -> list[str]:
    colour = "holds" if forgetting.words == "nothing shown to be lost" else "broken"
    return [
        f"<h2>Of what it could do before, <span class={colour}>{forgetting.words}</span></h2>",
        _measures(forgetting.measures),
        _rows([("worse", forgetting.lost)]) if forgetting.lost else "",
        f"<p class=dim>From: {escape('; '.join(forgetting.sources))}. For evaluation only.</p>",
    ]


def _comparison(comparison: Comparison) -> list[str]:
    order = sorted(comparison.values.items(), key=lambda pair: pair[1], reverse=comparison.higher_is_better)
    values = "".join(f"<tr><td>{escape(name)}<td class=n>{value:.3f}" for name, value in order)
    lines = [
        f"<h1>{escape(comparison.metric)} on {comparison.rows} rows that no run has seen</h1>"
        f"<p class=dim>{escape(comparison.data)}</p>"
        f"<table><tr><th>model<th class=n>{escape(comparison.metric)}{values}</table><h2>Each pair</h2>"
        "<div class=wide><table><tr><th><th><th><th class=n>difference<th class=n>interval<th class=n>p, adjusted"
    ]
    for pair in comparison.pairs:
        lines.append(
            f"<tr><td>{escape(pair.second)}<td class={_CLASSES[pair.words]}>{pair.words}<td>than {escape(pair.first)}"
            f"<td class=n>{pair.difference:+.3f}<td class=n>{_interval(pair.low, pair.high)}"
            f"<td class=n>{pair.adjusted_p_value:.2g}"
        )
    return ["\n".join(lines) + "</table></div>", _notes(comparison.notes)]


def _benchmarks(table: Benchmarks) -> list[str]:
    heads = "".join(f"<th class=n>{escape(model)}" for model in table.models)
    lines = [
        f"<h1>Benchmarks</h1><p class=dim>{escape(table.harness)}</p>"
        f"<div class=wide><table><tr><th>scenario<th>metric{heads}"
    ]
    for scenario in table.scenarios:
        metrics = dict.fromkeys(score.metric for score in table.scores if score.scenario == scenario.name)
        for metric in metrics:
            cells = "".join(_cell(table.score(scenario.name, metric, model), table) for model in table.models)
            lines.append(f"<tr><td>{escape(scenario.name)}<td>{escape(metric)}{cells}")
    sources = "".join(
        f"<li>{escape(scenario.name)}: {scenario.rows} rows, {scenario.few_shot} examples in the prompt; "
        f"{escape(scenario.source)}. {escape(scenario.note)}"
        for scenario in table.scenarios
    )
    return ["\n".join(lines) + "</table></div>", f"<h2>Rows</h2><ul>{sources}</ul>", _notes(table.notes)]


def _cell(score: Score | None, table: Benchmarks) -> str:
    if score is None:
        return "<td class=n>—"
    error = f" <span class=dim>± {score.error:.3f}</span>" if score.error is not None else ""
    colour = words = ""
    if score.difference is not None and score.adjusted_p_value is not None:
        shown = score.adjusted_p_value <= 1 - table.confidence
        colour = " better" if shown and score.difference > 0 else " worse" if shown and score.difference < 0 else ""
        words = f"<br><span class=dim>{score.difference:+.3f} ({_interval(score.low, score.high)})</span>"
    return f"<td class='n{colour}'>{score.value:.3f}{error}{words}"


def _notes(notes: Sequence[str]) -> str:
    return "<h2>Notes</h2><ul>" + "".join(f"<li>{escape(note)}" for note in notes) + "</ul>" if notes else ""


def _interval(low: float | None, high: float | None) -> str:
    return "—" if low is None or high is None else f"{low:+.3f} to {high:+.3f}"
