"""Minute one finds what cannot work."""

import msgspec
import torch

from giblet_train.contract.records import ModalityFacts
from giblet_train.sanity import findings_of_data, findings_of_start, parameters_without_gradient

FACT = ModalityFacts(
    n_targets=10, raw_mean=5.0, raw_sd=2.0, raw_min=0.0, raw_max=9.0, mean=0.0, sd=1.0, train_variance=1.0
)


def changed(**fields):
    return {"video": msgspec.structs.replace(FACT, **fields)}


def test_good_data_have_no_findings():
    assert findings_of_data({"fmri": FACT, "video": FACT}) == []
    assert findings_of_start({"fmri": 1.0, "video": 0.95}) == []


def test_each_fault_has_its_sentence():
    assert "categories" in findings_of_data(changed(looks_categorical=True))[0]
    assert "not finite" in findings_of_data(changed(sd=None))[0]
    assert "standard deviation 3" in findings_of_data(changed(sd=3.0))[0]
    assert "8 of 10 targets never change" in findings_of_data(changed(constant_targets=8))[0]


def test_a_loss_that_does_not_start_at_one_is_named():
    assert "audio starts at 1.692e+05" in findings_of_start({"fmri": 1.0, "audio": 169162.0})[0]
    assert findings_of_start({"fmri": float("nan")})


def test_parameters_out_of_reach_are_named():
    model = torch.nn.ModuleDict({"used": torch.nn.Linear(2, 1), "idle": torch.nn.Linear(2, 1)})
    model["used"](torch.ones(1, 2)).sum().backward()
    assert parameters_without_gradient(model) == ["idle.weight", "idle.bias"]
