"""A certificate authority made for the tests of one run."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization


class Authority:
    """``ca_file`` is what clients trust; certificates are for ``localhost`` and ``127.0.0.1``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._authority = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca_file))

    def server_context(self) -> ssl.SSLContext:
        """Return a context for a server in this process."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
        return context

    def server_file(self, name: str = "server") -> Path:
        """Return a PEM file with private key (PKCS #8, for Java) and certificate chain, for another process."""
        issued = self._authority.issue_cert("localhost", "127.0.0.1")
        key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = self._folder / f"{name}.pem"
        path.write_bytes(key + b"".join(certificate.bytes() for certificate in issued.cert_chain_pems))
        return path
