"""Sealed destinations: who holds a key reads them, and nobody else."""

import pytest
from pydantic import SecretStr

from monitor.alerts.sealing import Destination, SealBroken, Sealer, new_key
from monitor.domain.errors import InvalidSettings

OLD, NEW = SecretStr(new_key()), SecretStr(new_key())
HOOK = Destination(url="https://hooks.example.org/services/T0/B0/t0ken", secret="s3cret")


def test_what_is_sealed_is_opened_by_its_key_alone() -> None:
    sealed = Sealer([OLD]).seal(HOOK)
    assert b"t0ken" not in sealed
    assert b"s3cret" not in sealed
    assert Sealer([OLD]).open(sealed) == HOOK
    for others in ([], [NEW]):
        with pytest.raises(SealBroken, match=r"alerts\.encryption_keys"):
            Sealer(others).open(sealed)


def test_keys_are_changed_by_putting_a_new_one_first() -> None:
    sealed = Sealer([OLD]).seal(HOOK)
    both = Sealer([NEW, OLD])
    renewed = both.seal(both.open(sealed))
    assert Sealer([NEW]).open(renewed) == HOOK


def test_what_was_changed_is_refused() -> None:
    sealed = bytearray(Sealer([OLD]).seal(HOOK))
    sealed[40] ^= 1
    with pytest.raises(SealBroken):
        Sealer([OLD]).open(bytes(sealed))


def test_a_destination_shows_its_host_and_nothing_else() -> None:
    assert HOOK.shown == "https://hooks.example.org/…"
    assert "t0ken" not in repr(HOOK)
    assert "s3cret" not in repr(HOOK)


def test_without_a_key_the_error_says_how_to_get_one() -> None:
    assert not Sealer([]).has_keys
    with pytest.raises(InvalidSettings, match="groundwatch alerts key"):
        Sealer([]).seal(HOOK)


@pytest.mark.parametrize("key", ["sh0rt", "x" * 44])
def test_a_key_that_is_none_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(InvalidSettings, match="not a key") as refusal:
        Sealer([SecretStr(key)])
    assert key not in str(refusal.value)


def test_an_empty_key_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="not a key"):
        Sealer([SecretStr("")])
