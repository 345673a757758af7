"""Makes the service known to the gatekeeper that is to serve it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatekeeper.errors import GatekeeperError
from gatekeeper.golem.definitions import Definition, certificate_hash, definition_json
from gatekeeper.management_client import Client, Refused, Unreachable


class DifferentService(GatekeeperError):  # noqa: N818 - it says what is there
    """There is a service of this name, and it is another one."""


def register(api: Client, definition: Definition) -> None:
    """Create the service; one that is there already is good if it is the same.

    :raises DifferentService: it is not; says which fields differ.
    :raises Refused: the API does not take it.
    :raises Unreachable: there was no answer.
    """
    try:
        api.call("POST", ("services",), body=definition_json(definition), timeout=30.0)
    except Refused as error:
        if error.status != 409:
            raise
        try:
            there = api.call("GET", ("services", definition.name))
        except Refused:
            raise error from None  # in the way is not the name, but an address or a path
        try:
            fields = differences(definition, there)
        except (AttributeError, TypeError):
            raise Unreachable("the management API's answer is no service") from None
        if fields:
            raise DifferentService(
                f"there is another service `{definition.name}` already; it differs in "
                + ", ".join(f"`{field}`" for field in fields)
            ) from None


def differences(definition: Definition, there: Mapping[str, Any]) -> list[str]:
    """The fields in which a service of the API is not what the definition says.

    What is only advertised does not count, nor where the certificate's file is.
    """
    expected = _served(definition_json(definition))
    found = _served(there)
    certificate = definition.certificate
    if certificate is not None:
        found["cert"] = (there.get("cert") or {}).get("hash")
        try:
            expected["cert"] = certificate_hash(certificate.path)
        except (OSError, ValueError):
            expected["cert"] = "unreadable"
    if not definition.server_names:  # the proxy's default is in its place
        del expected["serverName"], found["serverName"]
    return [field for field in expected if expected[field] != found[field]]


def _served(service: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that say how a service is served, each in one spelling."""
    fields: dict[str, Any] = {
        name: _list(service.get(name)) for name in ("serverName", "bindHttps", "bindHttp")
    }
    for name in ("from", "to", "requestTimeout", "responseTimeout"):
        fields[name] = service.get(name)
    return fields


def _list(value: Any) -> list[Any]:
    """One, several or none, in any order."""
    return [] if value is None else [value] if isinstance(value, str) else sorted(value)
