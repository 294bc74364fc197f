"""The optimizer against torch's own, bit by bit, and what it imports."""

from __future__ import annotations

import subprocess
import sys

import torch
from torch import nn

from giblet_train.components.optim import BETAS, adamw

PROGRAM = """\
import sys
import torch
from giblet_train.components.optim import adamw
from giblet_train.distributed.process_group import set_threads
from giblet_train.schema.config import Config
set_threads(Config(name="own", threads=1, deterministic=True), 1)
assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
model = torch.nn.Linear(2, 2)
optimizer = adamw(model, 0.1, 0.1)
model(torch.ones(1, 2)).sum().backward()
optimizer.step()
print("torch._dynamo" in sys.modules)
"""


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def test_steps_and_state_equal_those_of_torch() -> None:
    ours, theirs = network(), network()
    optimizer = adamw(ours, 1e-2, 0.1)
    groups = [
        {"params": [p for p in theirs.parameters() if (p.ndim == 2) == is_matrix], "weight_decay": 0.1 * is_matrix}
        for is_matrix in (True, False)
    ]
    reference = torch.optim.AdamW(groups, lr=1e-2, betas=BETAS, fused=True)
    inputs = torch.randn(11, 5)
    for _ in range(6):
        for model, stepper in ((ours, optimizer), (theirs, reference)):
            model(inputs).square().sum().backward()
            stepper.step()
            stepper.zero_grad()
    for parameter, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(parameter, other)
        state, expected = optimizer.state[parameter], reference.state[other]
        assert state.keys() == expected.keys()
        for slot, value in expected.items():
            assert torch.equal(state[slot], value) and state[slot].dtype == value.dtype


def test_a_training_process_does_without_the_compiler_of_torch() -> None:
    assert subprocess.check_output([sys.executable, "-c", PROGRAM], text=True) == "False\n"
