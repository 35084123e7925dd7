"""Record the figures of ``tests/integration/exploration/open_bandit.json`` again, with the Open Bandit Pipeline.

    python3.11 -m venv build/obp
    build/obp/bin/pip install "numpy<2" pandas "scikit-learn<1.6" && build/obp/bin/pip install --no-deps obp==0.4.1
    python scripts/record_open_bandit.py --python build/obp/bin/python

The package needs torch for learners that are not used here: an empty module takes its place, and only the module of
the estimators is imported.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from tests.integration.exploration.open_bandit import PAIRS, arrays, load_sample

RECORDED = Path(__file__).parents[1] / "tests" / "integration" / "exploration" / "open_bandit.json"

_ESTIMATE = """
import importlib.util, json, pathlib, sys, types
torch = types.ModuleType("torch")
torch.Tensor = type("Tensor", (), {})
sys.modules["torch"] = torch
root = pathlib.Path(importlib.util.find_spec("obp").submodule_search_locations[0])
for name, path in (("obp", root), ("obp.ope", root / "ope")):
    module = types.ModuleType(name)
    module.__path__ = [str(path)]
    sys.modules[name] = module
import numpy as np
from obp.ope import estimators
data = np.load(sys.argv[1])
log = {name: data[name] for name in ("reward", "action", "pscore", "action_dist")}
log["action_dist"] = log["action_dist"][:, :, None]
rewards = data["expected"][:, :, None]
print(json.dumps({
    "ips": estimators.InverseProbabilityWeighting().estimate_policy_value(**log),
    "snips": estimators.SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**log),
    "dr": estimators.DoublyRobust().estimate_policy_value(**log, estimated_rewards_by_reg_model=rewards),
}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="the interpreter of an environment with obp 0.4.1")
    interpreter = parser.parse_args().python.absolute()
    sample = load_sample()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (log, target) in PAIRS.items():
            path = Path(folder) / "log.npz"
            columns = arrays(sample, log, target)
            np.savez(path, allow_pickle=False, **columns)
            answer = subprocess.run(
                [interpreter, "-c", _ESTIMATE, path], cwd=folder, capture_output=True, text=True, check=True
            )
            found[name] = json.loads(answer.stdout)
    RECORDED.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(RECORDED.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
