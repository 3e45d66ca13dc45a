"""Where alerts go, sealed: a webhook's URL and signing secret are worth as much as a password.

Fernet (AES-128-CBC with HMAC-SHA256; the `cryptography` library) under keys that the ledger never sees. Several keys
let them be changed: the first seals, all open.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from monitor.alerts.services import is_service
from monitor.alerts.services import shown as service_shown
from monitor.domain.errors import GroundwatchError, InvalidSettings
from monitor.storage.subscriptions import Subscription

_SETTING = "alerts.encryption_keys"


class SealBroken(GroundwatchError):
    """A destination in the ledger cannot be opened with the keys that are set."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """Where an alert is posted to, and what signs it; neither is ever shown."""

    url: str = field(repr=False)
    secret: str | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """Enough to know it again, too little to post to it."""
        if is_service(self.url):
            return service_shown(self.url)
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}/…"


class Sealer:
    """Seals destinations for the ledger and opens them for delivery.

    Raises:
        InvalidSettings: a key is none.
    """

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        try:
            fernets = [Fernet(key.get_secret_value()) for key in keys]
        except ValueError:
            raise InvalidSettings(f"{_SETTING}: not a key; make one with groundwatch alerts key") from None
        self._fernet = MultiFernet(fernets) if fernets else None

    @property
    def has_keys(self) -> bool:
        """Whether anything can be sealed."""
        return self._fernet is not None

    def seal(self, destination: Destination) -> bytes:
        """Only the holder of a key can read it.

        Raises:
            InvalidSettings: no key is set.
        """
        if self._fernet is None:
            raise InvalidSettings(
                f"{_SETTING} is not set: make a key with groundwatch alerts key, and give it to the alert worker, too"
            )
        return self._fernet.encrypt(json.dumps([destination.url, destination.secret]).encode())

    def open(self, sealed: bytes) -> Destination:
        """What was sealed.

        Raises:
            SealBroken: under another key, or changed since.
        """
        try:
            opened = self._fernet.decrypt(sealed) if self._fernet is not None else None
        except InvalidToken:
            opened = None
        if opened is None:
            raise SealBroken(f"no key in {_SETTING} opens this subscription's destination")
        url, secret = json.loads(opened)
        return Destination(url=url, secret=secret)


def destination_of(subscription: Subscription, sealer: Sealer) -> Destination:
    """Where a subscription's alerts go, in whichever form the ledger has it.

    Raises:
        SealBroken: see `Sealer.open`.
    """
    if subscription.plain is not None:
        url, secret = subscription.plain
        return Destination(url=url, secret=secret)
    assert subscription.sealed is not None
    return sealer.open(subscription.sealed)


def new_key() -> str:
    """A key, in the form in which settings take it."""
    return Fernet.generate_key().decode()
