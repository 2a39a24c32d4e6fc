"""Recall and precision of effects on notebooks labelled by hand, for each kind."""

from __future__ import annotations

from collections import Counter

import pytest
from labelled_case import Case
from labelled_set import CASES as FREQUENT
from labelled_tricks import TRICKS

from allmend.notebooks import read_bytes
from allmend.nouns.plan import Plan
from allmend.planning import plan_notebook

CASES = [*FREQUENT, *TRICKS]


def planned(case: Case) -> Plan:
    return plan_notebook(read_bytes(case.notebook()), path=case.name)


def found(plan: Plan) -> set[tuple[str, str, int]]:
    return {(effect.kind, effect.target, effect.cell) for effect in plan.effects}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_effects_are_those_that_a_person_lists(case: Case) -> None:
    assert found(planned(case)) == case.expected()


def test_recall_and_precision_of_every_kind() -> None:
    right: Counter[str] = Counter()
    listed: Counter[str] = Counter()
    labelled: Counter[str] = Counter()
    for case in CASES:
        have, want = found(planned(case)), case.expected()
        right.update(kind for kind, _, _ in have & want)
        listed.update(kind for kind, _, _ in have)
        labelled.update(kind for kind, _, _ in want)
    assert len(CASES) >= 40
    assert len(labelled) == 16, "every kind is in the set"
    assert {kind: right[kind] / labelled[kind] for kind in labelled if right[kind] < 0.95 * labelled[kind]} == {}
    assert {kind: right[kind] / listed[kind] for kind in listed if right[kind] < 0.95 * listed[kind]} == {}
