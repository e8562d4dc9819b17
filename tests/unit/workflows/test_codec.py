"""What Temporal stores of a payload."""

import os

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from workflows.codec import EncryptionCodec, data_converter
from workflows.payloads import StageResult
from workflows.plan_payloads import PlanRef

OLD, NEW = os.urandom(32), os.urandom(32)


async def test_a_payload_comes_back_and_is_unreadable_in_between() -> None:
    converter = data_converter({"new": NEW})

    encoded = await converter.encode([PlanRef(environment="prod", plan_id="a-plan")])

    assert b"a-plan" not in encoded[0].SerializeToString()
    assert await converter.decode(encoded, [PlanRef]) == [PlanRef(environment="prod", plan_id="a-plan")]


async def test_payloads_of_an_older_key_are_read_after_a_rotation() -> None:
    encoded = await EncryptionCodec({"old": OLD}).encode([Payload(data=b"x")])

    assert (await EncryptionCodec({"new": NEW, "old": OLD}).decode(encoded))[0].data == b"x"


async def test_a_payload_of_an_unknown_key_says_which() -> None:
    encoded = await EncryptionCodec({"old": OLD}).encode([Payload(data=b"x")])

    with pytest.raises(ValueError, match="'old'"):
        await EncryptionCodec({"new": NEW}).decode(encoded)


async def test_a_damaged_payload_is_refused() -> None:
    codec = EncryptionCodec({"new": NEW})
    encoded = (await codec.encode([Payload(data=b"x")]))[0]
    encoded.data = encoded.data[:-1] + bytes([encoded.data[-1] ^ 1])

    with pytest.raises(ValueError, match="does not decrypt"):
        await codec.decode([encoded])


async def test_payloads_that_were_never_encrypted_pass() -> None:
    assert (await EncryptionCodec({"new": NEW}).decode([Payload(data=b"plain")]))[0].data == b"plain"


def test_a_codec_without_keys_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one key"):
        EncryptionCodec({})


async def test_a_result_that_temporal_would_not_take_is_no_result() -> None:
    async def large(size: int) -> str:
        codec = EncryptionCodec({"new": NEW})
        await codec.encode([Payload(data=os.urandom(size))])
        return "taken"

    environment = ActivityEnvironment()
    assert await environment.run(large, 1_000_000) == "taken"
    with pytest.raises(ApplicationError, match="too many units of work") as raised:
        await environment.run(large, 1_600_000)
    assert raised.value.non_retryable


def test_a_long_error_is_cut() -> None:
    cut = StageResult(error="x" * 3_000_000).error
    assert cut is not None
    assert cut.endswith("… (2996040 characters more)")
    assert len(cut) <= 4000
    assert StageResult(error=cut).error == cut, "it is cut once, however often it is passed on"
