"""The burner as a service: from the configuration and a store to a loop that runs."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper.auth.hashing import ReactorThreads, Threads
from gatekeeper.auth.http_client import HttpClient
from gatekeeper.config.model_credits import Burner as BurnerSettings
from gatekeeper.config.model_credits import Credits
from gatekeeper.credits.burn_report import Report
from gatekeeper.credits.burn_terms import Schedule, Seam, Terms, ignore
from gatekeeper.credits.burner import Burner
from gatekeeper.credits.chain import Chain
from gatekeeper.credits.fees import FeeBounds
from gatekeeper.credits.ledger import Policy
from gatekeeper.credits.rpc import Rpc
from gatekeeper.credits.signing import Keyfile, KeyUnusableError, Mnemonic, Signer, unlock
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.store.ledger import ILedger

log = Logger()

_GWEI: Final = 10**9

#: The largest answer of a node: 20 transactions in hexadecimal digits, each of 128 KiB.
_LARGEST_ANSWER: Final = 8 * 1024 * 1024

_LARGEST_KEYFILE: Final = 65536


def terms_of(settings: BurnerSettings, chain_id: int) -> Terms:
    """How to burn, as the configuration says."""
    bounds = FeeBounds(
        max_fee=int(settings.max_fee_gwei * _GWEI),
        max_priority=int(settings.max_priority_gwei * _GWEI),
        multiplier=Fraction(settings.gas_price_multiplier),
    )
    policy = Policy(
        bounds,
        confirmations=settings.confirmations,
        resend=settings.resend,
        stuck=settings.stuck,
        retries=settings.retries,
    )
    return Terms(chain_id, policy, Fraction(settings.gas_multiplier), settings.max_gas)


def schedule_of(settings: BurnerSettings) -> Schedule:
    """When to burn, as the configuration says."""
    return Schedule(settings.interval, settings.amount, settings.batch, settings.poll)


def key_of(settings: BurnerSettings) -> Keyfile | Mnemonic:
    """The key, still locked.

    :raises KeyUnusableError: the keyfile cannot be read.
    """
    if settings.keyfile is not None:
        return Keyfile(_content(settings.keyfile), _secret(settings.keyfile_password))
    return Mnemonic(_secret(settings.mnemonic), path=settings.derivation_path)


class BurnerService(Service):
    """Burns what ``store`` says is owed, while it runs. The store is somebody else's to open.

    Nothing of the key is opened, and no library for it loaded, before the service starts. A key
    that cannot be opened is given to ``fatal``, as :class:`ConfigurationError`.

    ``reached`` is called at each :class:`~gatekeeper.credits.burn_terms.Seam`; ``threads`` is where
    the key is opened.

    :raises ConfigurationError: ``credits.ca_file`` cannot be used.
    """

    name = "burner"

    def __init__(
        self,
        settings: BurnerSettings,
        credits: Credits,
        store: ILedger,
        reactor: Any,
        fatal: Callable[[Failure], None],
        *,
        reached: Callable[[Seam], object] = ignore,
        threads: Threads | None = None,
    ) -> None:
        assert credits.rpc_url is not None, "is checked when the configuration is loaded"
        assert credits.chain_id is not None, "is checked when the configuration is loaded"
        self.report = Report()
        self._settings = settings
        self._store = store
        self._reactor = reactor
        self._fatal = fatal
        self._reached = reached
        self._threads = threads or ReactorThreads()
        self._terms = terms_of(settings, credits.chain_id)
        self._chain = Chain(Rpc(credits.rpc_url, _client(credits)))
        self._burner: Burner | None = None
        self._begun: Deferred[None] = succeed(None)

    def startService(self) -> None:
        """Open the key, then burn."""
        super().startService()  # type: ignore[no-untyped-call]
        self._begun = Deferred.fromCoroutine(self._begin()).addErrback(self._fatal)

    async def _begin(self) -> None:
        try:
            signer = await unlock(key_of(self._settings), self._threads)
        except KeyUnusableError as error:
            raise ConfigurationError([Problem("burner", str(error))]) from None
        finally:
            self._threads.close()
        if self.running:
            self._burn(signer)

    def _burn(self, signer: Signer) -> None:
        self._burner = Burner(
            self._store,
            self._chain,
            signer,
            self._terms,
            schedule_of(self._settings),
            self._reactor,
            self.report,
            reached=self._reached,
        )
        self._burner.start()

    def stopService(self) -> Deferred[None]:
        """Finish the pass that is under way, and let somebody else burn."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._begun
        if self._burner is not None:
            await self._burner.stop()
        self._chain.close()

    def problem(self) -> str | None:
        """What is wrong now, for readiness; ``None``: nothing."""
        return self.report.problem


def _client(credits: Credits) -> HttpClient:
    try:
        return HttpClient(
            "the chain",
            timeout=credits.timeout,
            max_body=_LARGEST_ANSWER,
            ca_file=credits.ca_file,
            silent=True,  # what goes wrong is told by the burner
        )
    except ConfigurationError as error:
        raise ConfigurationError(
            Problem(f"credits.{problem.path}", problem.message) for problem in error.problems
        ) from None


def _secret(value: SecretStr | None) -> str:
    return value.get_secret_value() if value is not None else ""


def _content(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(_LARGEST_KEYFILE).decode()
    except OSError as error:
        raise KeyUnusableError(f"the file `{file}` cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KeyUnusableError(f"the file `{file}` is no text") from None
