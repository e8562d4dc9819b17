"""Payload codec: what Temporal stores of a payload is compressed and encrypted.

Used by every client, worker and replayer of a project; the keys are the server's, handed out with the bootstrap.
Connection secrets never enter a payload, encrypted or otherwise.
"""

import dataclasses
import os
from collections.abc import Iterable, Mapping

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes, PayloadCodec
from temporalio.exceptions import ApplicationError

__all__ = ["EncryptionCodec", "data_converter"]

_ENCODING = b"binary/tempomesh-zstd-aesgcm"
_KEY_ID = "tempomesh-key-id"
_NONCE_BYTES = 12
_LARGEST_RESULT_BYTES = 1_500_000
"""Temporal takes 2 MB a payload; a workflow that continues as new adds to what its activities told it."""


def data_converter(keys: Mapping[str, bytes]) -> DataConverter:
    """The data converter of a project: pydantic models, compressed and encrypted, failure messages included.

    Args:
        keys: Key id to 32-byte key, newest first: the first one encrypts, any of them decrypts.
    """
    return dataclasses.replace(
        pydantic_data_converter,
        payload_codec=EncryptionCodec(keys),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )


class EncryptionCodec(PayloadCodec):
    """zstd, then AES-256-GCM with a fresh nonce and the key's id as associated data.

    Args:
        keys: Key id to 32-byte key, newest first.

    Raises:
        ValueError: If there is no key.
    """

    def __init__(self, keys: Mapping[str, bytes]):
        if not keys:
            raise ValueError("The payload codec needs at least one key.")
        self._key_id = next(iter(keys))
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}

    async def encode(self, payloads: Iterable[Payload]) -> list[Payload]:
        return [self._encode(payload) for payload in payloads]

    async def decode(self, payloads: Iterable[Payload]) -> list[Payload]:
        return [self._decode(payload) for payload in payloads]

    def _encode(self, payload: Payload) -> Payload:
        nonce = os.urandom(_NONCE_BYTES)
        plain = zstandard.ZstdCompressor().compress(payload.SerializeToString())
        sealed = self._ciphers[self._key_id].encrypt(nonce, plain, self._key_id.encode())
        if activity.in_activity() and len(sealed) > _LARGEST_RESULT_BYTES:
            raise ApplicationError(
                f"The result of {activity.info().activity_type} takes {len(sealed)} bytes, and Temporal takes "
                f"no more than {_LARGEST_RESULT_BYTES}: the plan or run has too many units of work. Plan fewer models "
                "at once, or a shorter time, or give models a larger `batch_size`.",
                type="TooLarge",
                non_retryable=True,
            )
        return Payload(metadata={"encoding": _ENCODING, _KEY_ID: self._key_id.encode()}, data=nonce + sealed)

    def _decode(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != _ENCODING:
            return payload
        key_id = payload.metadata[_KEY_ID].decode()
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise ValueError(f"Payload was encrypted with key '{key_id}', which is not in this process's key ring.")
        nonce, sealed = payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:]
        try:
            plain = cipher.decrypt(nonce, sealed, key_id.encode())
        except InvalidTag as error:
            raise ValueError(f"Payload does not decrypt with key '{key_id}': damaged, or another key.") from error
        return Payload.FromString(zstandard.ZstdDecompressor().decompress(plain))
