"""Further names of a claim's file: anybody may give it some in a shared directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from giblet_tui.agent import gpu_claims
from giblet_tui.agent.gpu_claims import GpuClaim

RUN_ID = "demo-20260101-120000-abcd"


@pytest.fixture
def claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GpuClaim]:
    folder = tmp_path / "claims"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv(gpu_claims.DIRECTORY_VARIABLE, str(folder))
    own = gpu_claims.claim(RUN_ID, ["GPU-0"])
    yield own
    own.release()


def test_a_further_name_of_ones_own_claim_is_no_conflict(claim: GpuClaim) -> None:
    os.link(claim.path, Path(claim.path).parent / f"{gpu_claims.PREFIX}!")  # listed before its own name
    assert [entry["run_id"] for entry in gpu_claims.live_claims()] == [RUN_ID]
    assert gpu_claims.conflicting(claim) == []


def test_many_names_of_one_claim_hide_no_other_claim_of_its_owner(
    claim: GpuClaim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_claims, "MAX_FILES_PER_USER", 3)
    for number in range(5):
        os.link(claim.path, Path(claim.path).parent / f"{gpu_claims.PREFIX}!{number}")
    other = gpu_claims.claim("demo-20260101-120000-ffff", ["GPU-0"])
    assert [entry["run_id"] for entry in gpu_claims.conflicting(claim)] == ["demo-20260101-120000-ffff"]
    other.release()
