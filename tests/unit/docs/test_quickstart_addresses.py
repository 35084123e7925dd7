"""The quickstart's files run on the addresses that ``headrace up`` gives, whatever its ports are."""

from __future__ import annotations

import re
from pathlib import Path

from headrace.embedded import EmbeddedStack
from headrace.embedded.stack_process import addresses

QUICKSTART = (Path(__file__).parents[3] / "docs" / "quickstart.md").read_text(encoding="utf-8")
FILES = re.findall(r"^```yaml\n(# \w+\.yaml\n.*?)^```", QUICKSTART, re.M | re.S)


def test_trial_8_the_files_of_the_quickstart_name_no_address() -> None:
    names = [text.splitlines()[0] for text in FILES]
    assert names == ["# worker.yaml", "# orders.yaml", "# search.yaml"]
    for text in FILES:
        assert not re.search(r"localhost|127\.0\.0\.1|://|:\d{4}", text), text


def test_trial_8_headrace_up_sets_each_variable_of_the_files(tmp_path: Path) -> None:
    used = set(re.findall(r"\$\{env:(\w+)\}", "".join(FILES)))
    assert used == {engine["variable"] for engine in addresses(EmbeddedStack(tmp_path)).values()}
    assert 'eval "$(headrace up --detach kafka elasticsearch)"' in QUICKSTART
