"""Certificate and key for both protocols, tried before a port is opened."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from rekindle._errors import UsageError


@dataclass(frozen=True)
class Tls:
    """A certificate chain and its key, both PEM files that fit together."""

    certificate: Path
    key: Path

    def grpc(self) -> grpc.ServerCredentials:
        pair = (self.key.read_bytes(), self.certificate.read_bytes())
        return grpc.ssl_server_credentials([pair])


def load(certificate: Path | None, key: Path | None) -> Tls | None:
    """None where neither is named; UsageError where they cannot be used."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        missing = "--tls-cert" if certificate is None else "--tls-key"
        raise UsageError(f"{missing} is missing", hint="TLS needs a certificate and its key")
    for path in (certificate, key):
        if not path.is_file():
            raise UsageError(f"{path}: no such file", hint="PEM files of --tls-cert and --tls-key")
    try:
        # An encrypted key would be asked for on the terminal, where nobody may be.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_refuse)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise UsageError(
            f"{certificate} and {key} cannot be used for TLS: {error}",
            hint="a PEM chain, and the key of its first certificate",
        ) from None
    return Tls(certificate, key)


def _refuse() -> str:
    raise ValueError("the key is encrypted; write it without a passphrase, readable by you only")
