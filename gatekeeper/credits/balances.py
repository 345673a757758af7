"""What is left of accounts: read from the store, and from the chain that their credits are on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from twisted.logger import Logger

from gatekeeper.credits.accounts import Answer, AwayError, OutageError, UnreadableError
from gatekeeper.credits.chain import Chain
from gatekeeper.credits.rpc import ChainError, RefusedError, RevertedError, UnreachableError
from gatekeeper.errors import StoreError
from gatekeeper.store.ledger import ILedger
from gatekeeper.usage.records import Account

log = Logger()

#: Contracts that something is wrong with, and the log has said so.
_MOST_PROBLEMS: Final = 1000

_STORE: Final = "the store"
_NODE: Final = "the chain's node"


class Balances:
    """Reads accounts; see :class:`~gatekeeper.credits.accounts.Reads`.

    :param store: what was granted, what was spent, and what is metered and not burned.
    :param chain: balances; ``None``: no account is on a chain.
    :param chain_id: the chain's number. The node must say the same before its first balance is
        believed, and whenever it is back; ``None``: it is not asked.

    What goes wrong is logged when it begins, when it changes and when it is over.
    """

    def __init__(self, store: ILedger, chain: Chain | None, chain_id: int | None) -> None:
        self._store = store
        self._chain = chain
        self._chain_id = chain_id
        self._is_checked = chain_id is None
        self._problems: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<Balances: {len(self._problems)} problems>"

    async def __call__(self, accounts: Sequence[Account]) -> list[Answer]:
        """Read what is owed, and then what there is.

        :raises UnreadableError: the store does not answer.
        """
        try:
            kept = await self._store.read_accounts(accounts)
        except StoreError as error:
            raise self.store_is_away(error) from None
        self.store_is_back()
        # In the store is all that there is but for balances on a chain, which are asked for now.
        chained = [account for account in accounts if account.is_on_chain]
        balances = iter(await self.on_chain(chained))
        answers: list[Answer] = []
        for account, (granted, spent) in zip(accounts, kept, strict=True):
            balance = next(balances) if account.is_on_chain else granted
            answers.append(balance if isinstance(balance, UnreadableError) else (balance, spent))
        return answers

    async def on_chain(self, accounts: Sequence[Account]) -> list[int | UnreadableError]:
        """The balances of accounts that are all on a chain."""
        found: list[int | UnreadableError] = [0] * len(accounts)
        places: dict[str, list[int]] = {}
        for number, account in enumerate(accounts):
            places.setdefault(account.source, []).append(number)
        for contract, numbers in places.items():
            holders = [(accounts[each].holder, int(accounts[each].name)) for each in numbers]
            balances = await self._read_contract(contract, holders)
            for number, balance in zip(numbers, balances, strict=True):
                found[number] = balance
        return found

    def store_is_away(self, error: StoreError) -> AwayError:
        """What this means for who asks about accounts. It is logged, unless that has been done."""
        away = AwayError(f"{_STORE}: {error}")
        self._note(_STORE, away)
        return away

    def store_is_back(self) -> None:
        """It answers."""
        self._clear(_STORE)

    async def _read_contract(
        self, contract: str, holders: Sequence[tuple[str, int]]
    ) -> Sequence[int | UnreadableError]:
        """The balance of each (holder, token id) in one contract, or why it cannot be read."""
        found: Sequence[int | UnreadableError]
        try:
            if self._chain is None:
                raise UnreadableError("`credits.rpc_url` is not set")
            await self._check_chain(self._chain)
            found = await self._balances(self._chain, contract, holders)
        except UnreadableError as error:
            found = [self._note(_NODE, error)] * len(holders)
        else:
            self._clear(_NODE)
            problems = [each for each in found if isinstance(each, UnreadableError)]
            if problems:
                self._note(contract, problems[0])
            else:
                self._clear(contract)
        return found

    async def _check_chain(self, chain: Chain) -> None:
        """See that the node is on the chain that is meant.

        :raises UnreadableError: it is not, or does not say.
        """
        if self._is_checked:
            return
        try:
            found = await chain.chain_id()
        except UnreachableError as error:
            raise OutageError(f"{_NODE}: {error}") from None
        except ChainError as error:
            raise UnreadableError(f"{_NODE}: {error}") from None
        if found != self._chain_id:
            raise UnreadableError(
                f"{_NODE} is on chain {found}, and `credits.chain_id` is {self._chain_id}"
            )
        self._is_checked = True

    async def _balances(
        self, chain: Chain, contract: str, holders: Sequence[tuple[str, int]]
    ) -> list[int | UnreadableError]:
        """Ask for all at once, or for each by itself where one spoils it for the others.

        :raises OutageError: the node does not answer.
        """
        found: Sequence[int | ChainError]
        try:
            try:
                found = await chain.balances(contract, holders)
            except ChainError as error:
                if not _is_about_holders(error):
                    raise
                found = await chain.each_balance(contract, holders)
        except UnreachableError as error:
            self._is_checked = self._chain_id is None
            raise OutageError(f"{_NODE}: {error}") from None
        except ChainError as error:
            found = [error] * len(holders)
        return [
            _unreadable(contract, each) if isinstance(each, ChainError) else each for each in found
        ]

    def _note(self, what: str, error: UnreadableError) -> UnreadableError:
        """Log what is wrong, unless that has been said."""
        text = str(error)
        if self._problems.get(what) != text:
            if len(self._problems) >= _MOST_PROBLEMS:
                self._problems.clear()
            self._problems[what] = text
            log.error("Balances cannot be read: {problem}", problem=text)
        return error

    def _clear(self, what: str) -> None:
        if self._problems.pop(what, None) is not None:
            log.info("Balances can be read again: {what} answers", what=what)


def _is_about_holders(error: ChainError) -> bool:
    """Whether the others may get an answer where one holder does not.

    The contracts revert where one holder is the zero address, and use gas for every entry that a
    holder has; nodes bound that.
    """
    if isinstance(error, RevertedError):
        return True
    return isinstance(error, RefusedError) and "gas" in error.text.lower()


def _unreadable(contract: str, error: ChainError) -> UnreadableError:
    """A node that refuses for no reason of the contract's is as good as out of reach."""
    refused = isinstance(error, RefusedError) and not _is_about_holders(error)
    return (OutageError if refused else UnreadableError)(f"contract {contract}: {error}")
