"""Files of the old system, as texts, so that what is made of them needs no disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """A file: where it is, absolute, and what it holds."""

    path: Path
    text: str = field(repr=False)

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        return self.path.name


@dataclass(frozen=True)
class CertificateFiles:
    """PEM files: the certificate with its chain, and the private key."""

    certificate: str
    key: str
