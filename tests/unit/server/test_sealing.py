"""Sealed texts: read with any key of the ring, for what they were sealed for, and not if a bit is different."""

import base64

import pytest
from pydantic import SecretStr

from server.sealing import KEY_BYTES, KeyRing, SealingError


def key(byte: int) -> SecretStr:
    return SecretStr(base64.b64encode(bytes([byte]) * KEY_BYTES).decode())


def test_what_was_sealed_is_read_again_and_never_looks_the_same_twice() -> None:
    ring = KeyRing({"one": key(1)})
    first, second = (ring.seal(b"secret", bound_to="acme.web/warehouse") for _ in range(2))
    assert first != second
    assert "secret" not in first
    assert ring.unseal(first, bound_to="acme.web/warehouse") == b"secret"
    assert ring.unseal(ring.seal(b"", bound_to=""), bound_to="") == b""


def test_old_keys_read_and_the_newest_seals() -> None:
    old = KeyRing({"one": key(1)}).seal(b"secret", bound_to="here")
    ring = KeyRing({"two": key(2), "one": key(1)})
    assert ring.unseal(old, bound_to="here") == b"secret"
    assert not ring.is_newest(old)
    assert ring.is_newest(ring.seal(b"secret", bound_to="here"))
    with pytest.raises(SealingError, match="key 'one', which is not among"):
        KeyRing({"two": key(2)}).unseal(old, bound_to="here")
    with pytest.raises(SealingError, match="another key 'one'"):
        KeyRing({"one": key(3)}).unseal(old, bound_to="here")


def test_a_sealed_text_is_good_for_one_thing_and_only_as_it_was() -> None:
    ring = KeyRing({"one": key(1), "same": key(1)})
    sealed = ring.seal(b"secret", bound_to="here")
    with pytest.raises(SealingError, match="belongs to something else than there"):
        ring.unseal(sealed, bound_to="there")
    with pytest.raises(SealingError, match="altered"):
        ring.unseal(sealed.replace(":one:", ":same:"), bound_to="here")
    head, _, body = sealed.rpartition(":")
    raw = base64.b64decode(body)
    for position in range(len(raw)):
        altered = raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]
        with pytest.raises(SealingError, match="altered"):
            ring.unseal(f"{head}:{base64.b64encode(altered).decode()}", bound_to="here")


@pytest.mark.parametrize("text", ["", "secret", "aesgcm1:one:", "aesgcm1:one:AAAA", "aesgcm1::AAAA", "aesgcm1:one:ü"])
def test_other_texts_are_refused(text: str) -> None:
    ring = KeyRing({"one": key(1)})
    with pytest.raises(SealingError, match="no sealed text"):
        ring.unseal(text, bound_to="here")
    with pytest.raises(SealingError, match="no sealed text"):
        ring.is_newest(text)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({}, "at least one key"),
        ({"": key(1)}, "no id of a key"),
        ({"a:b": key(1)}, "no id of a key"),
        ({"one": SecretStr("hunter2")}, "key 'one' is not base64 of 32 bytes"),
        ({"one": SecretStr("ü")}, "key 'one' is not base64 of 32 bytes"),
    ],
)
def test_a_ring_takes_keys_only(keys: dict[str, SecretStr], reason: str) -> None:
    with pytest.raises(SealingError, match=reason) as caught:
        KeyRing(keys)
    assert "hunter2" not in str(caught.value)
