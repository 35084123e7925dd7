"""Addresses, credentials and certificates of a schema registry."""

from __future__ import annotations

import ssl
from urllib.parse import unquote, urlsplit

from headrace import ConfigError, Finding
from headrace.converters.schema_registry.configuration import SchemaRegistryConfig


def without_user(url: str) -> str:
    """Return the address without user and password, and without a slash at its end."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")


def credentials(url: str, config: SchemaRegistryConfig) -> tuple[str, str] | None:
    """Return user and password for an address; None when there are none."""
    if config.credentials_source == "USER_INFO":
        user, _, password = config.basic_auth.partition(":")
        return user, password
    parts = urlsplit(url)
    return (unquote(parts.username), unquote(parts.password or "")) if parts.username is not None else None


def tls_context(config: SchemaRegistryConfig) -> ssl.SSLContext:
    """Return the context for addresses with https. Raise ConfigError for a file that cannot be used."""
    name = "schema.registry.ssl.truststore.location"
    wanted = "name a PEM file with certificates"
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
        if not config.host_name_check:
            context.check_hostname = False
        if config.client_certificate is not None:
            name = "schema.registry.ssl.keystore.location"
            wanted = "name a PEM file with a certificate and its private key, and the password of the key"
            password = config.key_password.get_secret_value() if config.key_password is not None else ""
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(config.client_certificate, password=password)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or "it cannot be read"
        text = f"the file of {name} cannot be used: {reason}"
        raise ConfigError(findings=[Finding("config.invalid_value", text, name, wanted)]) from error
    return context
