"""A sealed connection opens with its own key, for its own gateway, and not otherwise."""

import pytest

from vault.envelopes import new_data_key, seal_envelope
from vault.opening import EnvelopeError, open_envelope

CONNECTION = {"type": "postgres", "password": "canary"}


def test_it_opens_only_for_what_it_was_sealed_for() -> None:
    key = new_data_key()
    sealed = seal_envelope(CONNECTION, key, project="a.b", gateway="w")
    assert b"canary" not in sealed
    assert sealed != seal_envelope(CONNECTION, key, project="a.b", gateway="w"), "the nonce is a fresh one"
    assert open_envelope(sealed, key, project="a.b", gateway="w") == CONNECTION
    for other, other_key, project, gateway in (
        (sealed, new_data_key(), "a.b", "w"),
        (sealed, key, "a.c", "w"),
        (sealed, key, "a.b", "v"),
        (sealed[:-1] + bytes([sealed[-1] ^ 1]), key, "a.b", "w"),
        (b"", key, "a.b", "w"),
        (sealed, b"short", "a.b", "w"),
    ):
        with pytest.raises(EnvelopeError, match=f"gateway '{gateway}' does not open"):
            open_envelope(other, other_key, project=project, gateway=gateway)
