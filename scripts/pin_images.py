"""Pin the container images of Dockerfile and docker-compose.yml by the digests that their registries have for the tags.

    python -m scripts.pin_images            # write the digests of today
    python -m scripts.pin_images --check    # only compare; exit code 1 if an image is not pinned, or its tag has moved

It needs access to the registries (Docker Hub for an image without one). A digest is that of all platforms of a tag. It
is computed from the manifest, and compared with the digest that the registry names.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parent.parent
FILES = ("Dockerfile", "docker-compose.yml")
HUB = "registry-1.docker.io"
# Of all platforms first. https://github.com/opencontainers/distribution-spec/blob/main/spec.md
MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1",
        "docker.distribution.manifest.list.v2",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.v2",
    )
)
_IMAGE = re.compile(
    r"(?m)^(?P<before>ARG \w+_IMAGE=|\s+image: )(?P<image>[^\s@]+)(?:@(?P<digest>sha256:[0-9a-f]{64}))?$"
)


class RegistryError(Exception):
    """A registry did not give a digest."""


@dataclass(frozen=True)
class Image:
    """``[registry/]repository[:tag]``, as in a Dockerfile."""

    registry: str
    repository: str
    tag: str

    @classmethod
    def parse(cls, name: str) -> Image:
        first, slash, rest = name.partition("/")
        has_registry = bool(slash) and ("." in first or ":" in first or first == "localhost")
        registry, path = (first, rest) if has_registry else (HUB, name)
        repository, _, tag = path.partition(":")
        if registry == HUB and "/" not in repository:
            repository = f"library/{repository}"
        return cls(registry, repository, tag or "latest")


def digest_of(image: Image, client: httpx.Client) -> str:
    """Return the digest of what a tag names now. Raise RegistryError and httpx.HTTPError."""
    address = f"https://{image.registry}/v2/{image.repository}/manifests/{image.tag}"
    headers = {"Accept": MANIFESTS}
    answer = client.get(address, headers=headers)
    if answer.status_code == 401:
        headers["Authorization"] = f"Bearer {_token(answer.headers.get('WWW-Authenticate', ''), client)}"
        answer = client.get(address, headers=headers)
    if answer.status_code != 200:
        raise RegistryError(f"{address}: HTTP {answer.status_code}")
    digest = f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
    named = answer.headers.get("Docker-Content-Digest", digest)
    if named != digest:
        raise RegistryError(f"{address}: the registry names {named}, its manifest has {digest}")
    return digest


def _token(challenge: str, client: httpx.Client) -> str:
    """Return the token for reading that a registry gives everybody (its answer to a request without one says where)."""
    values = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    if "realm" not in values:
        raise RegistryError(f"cannot log in: {challenge or 'no WWW-Authenticate header'}")
    realm = values.pop("realm")
    token: str = client.get(realm, params=values).raise_for_status().json()["token"]
    return token


def images(text: str) -> dict[str, str | None]:
    """Return the images of a file and the digests that they are pinned by."""
    return {found["image"]: found["digest"] for found in _IMAGE.finditer(text)}


def pinned(text: str, digests: Mapping[str, str]) -> str:
    """Return the text of a file with other digests."""
    return _IMAGE.sub(lambda found: f"{found['before']}{found['image']}@{digests[found['image']]}", text)


def main(root: Path = ROOT, client: httpx.Client | None = None, arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, exit with 1 if something differs")
    options = parser.parse_args(arguments)
    texts = {name: (root / name).read_text(encoding="utf-8") for name in FILES}
    known = {image: digest for text in texts.values() for image, digest in images(text).items()}
    try:
        with client or httpx.Client(timeout=30, follow_redirects=True) as open_client:
            digests = {image: digest_of(Image.parse(image), open_client) for image in known}
    except (RegistryError, httpx.HTTPError) as error:
        print(f"cannot read the digests: {error}", file=sys.stderr)
        return 3
    for image, digest in digests.items():
        state = "is pinned" if known[image] == digest else "not pinned" if known[image] is None else "has moved"
        print(f"{state:<10}  {image}@{digest}")
    if options.check:
        return int(known != digests)
    for name, text in texts.items():
        (root / name).write_text(pinned(text, digests), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
