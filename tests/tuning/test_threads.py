"""The number of threads is measured, said and kept in the plan."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tiny
from allmend.adapters import LoraConfig, LoraSet, attach
from allmend.data import Tokens
from allmend.tuning.passes import Passes
from allmend.tuning.probe import choose_layers, choose_threads
from allmend.tuning.tricks import Tricks

ROWS = [Tokens([5 + (place + i) % 250 for i in range(12)], bytes(10) + b"\1\1") for place in range(4)]


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def passes() -> tuple[Passes, LoraSet]:
    network = tiny.model("llama")
    network.requires_grad_(False)
    lora = attach(network, LoraConfig(rank=2), seed=0)
    loaded: Any = SimpleNamespace(model=network, device=torch.device("cpu"))
    return Passes.of(loaded, lora, Tricks(), 512), lora


@pytest.mark.usefixtures("threads")
def test_the_fastest_number_is_taken_and_the_adapter_left_alone() -> None:
    torch.set_num_threads(2)
    made, lora = passes()
    before = lora.state()
    choice = choose_threads(made, ROWS)
    assert choice.value in (1, 2)
    assert torch.get_num_threads() == choice.value
    assert "with 2" in choice.reason
    assert "with 1" in choice.reason
    assert all(torch.equal(value, before[name]) for name, value in lora.state().items())
    made.close()


@pytest.mark.usefixtures("threads")
def test_one_thread_needs_no_trial() -> None:
    torch.set_num_threads(1)
    made, _ = passes()
    assert choose_threads(made, ROWS).value == 1
    made.close()


def test_layers_can_be_chosen_by_time_and_either_trains_the_same() -> None:
    made, lora = passes()
    before = lora.state()
    choice = choose_layers(made, ROWS)
    assert choice is not None and choice.value in ("lean", "the model's own")
    assert (made.stack is not None) == (choice.value == "lean")
    assert "with lean" in choice.reason and "with the model's own" in choice.reason
    assert all(torch.equal(value, before[name]) for name, value in lora.state().items())
    made.close()
    assert choose_layers(made, ROWS) is None
