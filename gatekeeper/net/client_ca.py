"""Whose certificates a listener's clients may show, read again when the file changes."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path

from twisted.logger import Logger

from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.net.certificates import file_signature


class ClientAuthorities:
    """The authorities in a PEM file that clients are verified with.

    :param required: whether a client without a certificate is refused.
    :param seconds: the wall clock, seconds since the epoch.
    :raises ConfigurationError: the file cannot be used; the path is ``tls.client_ca``.
    """

    _log = Logger()

    def __init__(
        self, file: Path, required: bool, seconds: Callable[[], float] = time.time
    ) -> None:
        self._file = file
        self._mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        self._seconds = seconds
        self._signature = file_signature(file)
        self._complaint = ""
        self._changed_at = 0.0
        self._pem = self._read()

    def prepare(self, context: ssl.SSLContext) -> None:
        """Make a server's context ask for certificates, and verify them."""
        context.verify_mode = self._mode
        context.load_verify_locations(cadata=self._pem)

    def reload_if_changed(self) -> bool:
        """Whether there are others: contexts must be made anew then.

        A file that cannot be used is logged once and changes nothing.
        """
        signature = file_signature(self._file)
        if signature == self._signature:
            return False
        try:
            pem = self._read()
        except ConfigurationError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                self._log.error(
                    "The changed authorities of clients are not used, the old ones stay: {problem}",
                    problem=self._complaint,
                )
            return False
        self._signature = signature
        self._complaint = ""
        if pem == self._pem:
            return False
        self._pem = pem
        self._changed_at = self._seconds()
        self._log.info("New authorities of clients from {file}", file=str(self._file))
        return True

    def outdates(self, connection: ssl.SSLSocket | ssl.SSLObject) -> bool:
        """Whether a client resumes a session whose certificate others have verified.

        A resumed session's certificate is not looked at again, and sessions outlive the context
        that they began with. They know when they began in whole seconds only.
        """
        if not connection.session_reused or not self._changed_at:
            return False
        session = connection.session
        return session is None or session.time <= self._changed_at

    def _read(self) -> str:
        try:
            pem = self._file.read_text("ascii", "ignore")
        except OSError as error:
            raise self._problem(f"{self._file} cannot be read: {error.strerror}") from None
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=pem)
        except (ssl.SSLError, ValueError):
            raise self._problem(f"{self._file} holds no certificate in PEM form") from None
        return pem

    @staticmethod
    def _problem(message: str) -> ConfigurationError:
        return ConfigurationError([Problem("tls.client_ca", message)])
