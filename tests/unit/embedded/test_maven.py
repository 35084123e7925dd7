"""The repository is that of the environment, else that of Maven's settings, else Maven Central."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.embedded.maven import MAVEN_CENTRAL, MIRROR_VARIABLE, Repository, repository
from headrace.errors import InfrastructureError


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    (tmp_path / ".m2").mkdir()
    return tmp_path / ".m2" / "settings.xml"


def written(mirror: str, servers: str = "", namespace: str = "") -> str:
    xmlns = f' xmlns="{namespace}"' if namespace else ""
    return f"<settings{xmlns}><mirrors><mirror>{mirror}</mirror></mirrors><servers>{servers}</servers></settings>"


def test_without_settings_the_repository_is_maven_central(settings: Any) -> None:
    assert repository() == Repository(MAVEN_CENTRAL)


@pytest.mark.parametrize("stands_for", ["central", "*", "external:*", "*,!internal"])
@pytest.mark.parametrize("namespace", ["", "http://maven.apache.org/SETTINGS/1.2.0"])
def test_a_mirror_of_central_in_mavens_settings_is_used(settings: Any, stands_for: Any, namespace: Any) -> None:
    mirror = f"<id>m</id><url>https://maven.example/all/</url><mirrorOf>{stands_for}</mirrorOf>"
    settings.write_text(written(mirror, namespace=namespace))

    assert repository() == Repository("https://maven.example/all")


@pytest.mark.parametrize(
    "mirror",
    [
        "<url>https://maven.example</url><mirrorOf>internal</mirrorOf>",
        "<url>https://maven.example</url><mirrorOf>*,!central</mirrorOf>",
        "<url>https://maven.example</url><mirrorOf>*</mirrorOf><blocked>true</blocked>",
        "<mirrorOf>*</mirrorOf>",
    ],
)
def test_a_mirror_of_another_repository_is_not_used(settings: Any, mirror: Any) -> None:
    settings.write_text(written(mirror))

    assert repository() == Repository(MAVEN_CENTRAL)


def test_the_environment_takes_precedence(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.write_text(written("<url>https://maven.example</url><mirrorOf>*</mirrorOf>"))
    monkeypatch.setenv(MIRROR_VARIABLE, " https://other.example/maven/ ")

    assert repository() == Repository("https://other.example/maven")


def test_the_servers_login_is_sent_as_a_header(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAVEN_PASSWORD", "s3cret")
    settings.write_text(
        written(
            "<id>m</id><url>https://maven.example</url><mirrorOf>*</mirrorOf>",
            "<server><id>m</id><username>ada</username><password>${env.MAVEN_PASSWORD}</password></server>",
        )
    )

    found = repository()

    assert found.headers == {"Authorization": "Basic YWRhOnMzY3JldA=="}
    assert "YWRh" not in repr(found)


def test_a_variable_that_is_not_set_is_named(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAVEN_HOST", raising=False)
    settings.write_text(written("<url>https://${env.MAVEN_HOST}/all</url><mirrorOf>*</mirrorOf>"))

    with pytest.raises(InfrastructureError, match="the variable MAVEN_HOST, which is not set"):
        repository()


def test_settings_that_are_not_xml_are_named(settings: Any) -> None:
    settings.write_text("<settings>")

    with pytest.raises(InfrastructureError, match=r"settings.xml cannot be read") as caught:
        repository()

    assert MIRROR_VARIABLE in caught.value.hint


@pytest.mark.parametrize("address", ["maven.example/all", "file:///srv/maven", "https://"])
def test_a_mirror_without_an_http_url_is_refused(settings: Any, monkeypatch: pytest.MonkeyPatch, address: Any) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, address)

    with pytest.raises(InfrastructureError, match="is not an http") as caught:
        repository()

    assert caught.value.code == "embedded.maven_mirror"
