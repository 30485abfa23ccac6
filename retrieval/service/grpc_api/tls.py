"""TLS of the server: certificates are checked at the start, and can be read again while it runs."""

import logging
import ssl
from collections.abc import Callable
from typing import cast

import grpc

from retrieval.errors import InvalidArgument
from retrieval.service.config import TlsFiles

LOG = logging.getLogger(__name__)


class Certificates:
    """The server's certificate, and the authorities that it trusts to sign clients'."""

    def __init__(self, files: TlsFiles) -> None:
        """Read the files.

        Raises:
            InvalidArgument: a file is missing, or they don't belong together.
        """
        self._files = files
        self._present = _load(files)
        self._changed = False

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Read the files; nothing changes before ``use``.

        Raises:
            InvalidArgument: the files can't be used.
        """
        return _load(self._files)

    def use(self, configuration: grpc.ServerCertificateConfiguration) -> None:
        """Use these for new connections; open ones keep the old certificates."""
        self._present = configuration
        self._changed = True

    def credentials(self) -> grpc.ServerCredentials:
        """Return the credentials for a port; gRPC speaks TLS 1.2 and later."""
        return grpc.dynamic_ssl_server_credentials(
            self._present,
            cast("Callable[[], grpc.ServerCertificateConfiguration]", self._newest),
            require_client_authentication=bool(self._files.client_ca),
        )

    def _newest(self) -> grpc.ServerCertificateConfiguration | None:
        """Return new certificates once, or None; gRPC asks before every handshake."""
        if not self._changed:
            return None
        self._changed = False
        LOG.info("new certificates are in use")
        return self._present


def _load(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    # gRPC would only report that the handshake failed; Python's own TLS tells why.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(files.cert, files.key, password=_no_passphrase)
        if files.client_ca:
            context.load_verify_locations(files.client_ca)
        pair = (files.key.read_bytes(), files.cert.read_bytes())
        roots = files.client_ca.read_bytes() if files.client_ca else None
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        cause = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        named = ", ".join(str(path) for path in (files.cert, files.key, files.client_ca) if path)
        raise InvalidArgument(f"can't use the TLS files {named}: {cause}") from error
    return grpc.ssl_server_certificate_configuration([pair], roots)


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase; use a key without one")
