"""`scripts/pin_images.py` pins the images of Dockerfile and docker-compose.yml by what a registry answers."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import httpx
import pytest

from scripts.pin_images import FILES, HUB, ROOT, Image, digest_of, images, main

WITHOUT_DIGEST = {"apache/kafka:4.4.0"}
"""No public record of its digest was found (decision 359)."""
TOKEN = "for-everyone"


def content(path: str) -> bytes:
    return f'{{"manifest": "{path}"}}'.encode()


def digest(path: str) -> str:
    return f"sha256:{hashlib.sha256(content(path)).hexdigest()}"


class FakeRegistry:
    """Gives a token to all callers, and manifests to those that have it."""

    def __init__(self) -> None:
        self.wrong_digest = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "auth.example":
            assert request.url.params["scope"].startswith("repository:")
            return httpx.Response(200, json={"token": TOKEN})
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            scope = f"repository:{request.url.path.split('/manifests')[0].removeprefix('/v2/')}:pull"
            challenge = f'Bearer realm="https://auth.example/token",service="registry",scope="{scope}"'
            return httpx.Response(401, headers={"WWW-Authenticate": challenge})
        assert "oci.image.index" in request.headers["Accept"]
        named = digest("another" if self.wrong_digest else request.url.path)
        return httpx.Response(200, content=content(request.url.path), headers={"Docker-Content-Digest": named})


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


def client_of(registry: FakeRegistry) -> httpx.Client:
    return httpx.Client(transport=httpx.MockTransport(registry))


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("python:3.13-slim", Image(HUB, "library/python", "3.13-slim")),
        ("apache/kafka:4.4.0", Image(HUB, "apache/kafka", "4.4.0")),
        ("docker.example:5000/team/kafka", Image("docker.example:5000", "team/kafka", "latest")),
        ("localhost/kafka:1", Image("localhost", "kafka", "1")),
    ],
)
def test_the_name_of_an_image_is_parsed_as_docker_does(name: str, image: Image) -> None:
    assert Image.parse(name) == image


def test_a_digest_is_refused_that_the_manifest_does_not_have(registry: FakeRegistry) -> None:
    image = Image.parse("python:3")
    assert digest_of(image, client_of(registry)) == digest("/v2/library/python/manifests/3")
    registry.wrong_digest = True
    with pytest.raises(Exception, match="the registry names sha256:"):
        digest_of(image, client_of(registry))


@pytest.mark.parametrize("name", FILES)
def test_images_of_the_repository_have_a_digest(name: str) -> None:
    found = images((ROOT / name).read_text(encoding="utf-8"))
    assert found
    assert {image for image, pin in found.items() if pin is None} <= WITHOUT_DIGEST


def test_all_images_of_a_folder_are_pinned_and_then_checked(
    registry: FakeRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in FILES:
        text = (ROOT / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(re.sub("@sha256:[0-9a-f]+", "", text), encoding="utf-8")
    assert main(tmp_path, client_of(registry), ["--check"]) == 1
    assert capsys.readouterr().out.count("not pinned") == 5

    assert main(tmp_path, client_of(registry), []) == 0
    texts = [(tmp_path / name).read_text(encoding="utf-8") for name in FILES]
    assert f"ARG PYTHON_IMAGE=python:3.13-slim@{digest('/v2/library/python/manifests/3.13-slim')}\n" in texts[0]
    assert f"    image: apache/kafka:4.4.0@{digest('/v2/apache/kafka/manifests/4.4.0')}\n" in texts[1]
    assert main(tmp_path, client_of(registry), ["--check"]) == 0

    (tmp_path / "Dockerfile").write_text(
        texts[0].replace(digest("/v2/library/python/manifests/3.13-slim"), digest("old"))
    )
    assert main(tmp_path, client_of(registry), ["--check"]) == 1
    assert "has moved   python:3.13-slim@" in capsys.readouterr().out


def test_an_unavailable_registry_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in FILES:
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    closed = httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(503)))
    assert main(tmp_path, closed, []) == 3
    assert "HTTP 503" in capsys.readouterr().err
    assert all((tmp_path / name).read_text() == (ROOT / name).read_text() for name in FILES)
