"""Off-policy estimates on the Open Bandit sample equal those of the Open Bandit Pipeline.

``open_bandit.json`` was recorded with obp 0.4.1 by ``scripts/record_open_bandit.py``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from demo.dataset import Impression
from headrace.cli.main import app
from headrace_streams.exploration.off_policy import evaluate
from tests.integration.exploration.open_bandit import ITEMS, PAIRS, arrays, load_sample

RECORDED = json.loads((Path(__file__).parent / "open_bandit.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def sample() -> Sequence[Impression]:
    return load_sample()


@pytest.mark.parametrize("name", PAIRS)
def test_the_estimates_equal_those_of_the_open_bandit_pipeline(name: str, sample: Sequence[Impression]) -> None:
    log = arrays(sample, *PAIRS[name])
    rows = np.arange(len(log["reward"]))
    found = evaluate(
        log["reward"],
        log["pscore"],
        log["action_dist"][rows, log["action"]],
        log["expected"][rows, log["action"]],
        (log["action_dist"] * log["expected"]).sum(axis=1),
    )
    for estimator in ("ips", "snips", "dr"):
        assert getattr(found, estimator).value == pytest.approx(RECORDED[name][estimator], rel=0, abs=1e-9), estimator


def test_the_sample_is_too_small_for_a_verdict(sample: Sequence[Impression], tmp_path: Path) -> None:
    """42 clicks in 10,000 impressions: the command gives no verdict on the random policy's log, and says why."""
    log = arrays(sample, "random", "bts")
    candidates = [str(item) for item in range(ITEMS)]
    lines = [
        json.dumps(
            {
                "converted": bool(reward),
                "survey": str(action),
                "propensity": propensity,
                "bts": dict(zip(candidates, shares.tolist(), strict=True)),
            }
        )
        for reward, action, propensity, shares in zip(
            log["reward"], log["action"].tolist(), log["pscore"].tolist(), log["action_dist"], strict=True
        )
    ]
    path = tmp_path / "random.jsonl"
    path.write_text("\n".join(lines))
    answer = CliRunner().invoke(app, ["experiment", "evaluate", str(path), "--target", "bts", "--json"])
    found = json.loads(answer.stdout)
    assert found["verdict"] == "too early"
    assert "conversions weigh as much as" in found["reason"]
    assert found["estimates"]["ips"]["value"] == pytest.approx(RECORDED["random log, bts"]["ips"], abs=1e-9)
