"""A certificate authority made for the tests of one run."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class Authority:
    """``ca_file`` is what clients trust; certificates are for ``localhost`` and ``127.0.0.1``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._authority = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca_file))

    def server_context(self) -> ssl.SSLContext:
        """For a server in this process."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
        return context

    def server_file(self, name: str = "server") -> Path:
        """A PEM file with private key and certificate chain, for a server of its own."""
        path = self._folder / f"{name}.pem"
        self._authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(path))
        return path
