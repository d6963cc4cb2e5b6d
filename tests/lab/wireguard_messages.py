"""WireGuard's messages, made and read by hand: Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s, section 5.4 of the paper.

For handshakes that no well-behaved implementation would make. Shares no code with the exporter.
"""

from __future__ import annotations

import base64
import hmac
import os
import struct
import time
from dataclasses import dataclass
from hashlib import blake2s

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

INITIATION, RESPONSE, COOKIE_REPLY, DATA = 1, 2, 3, 4
NAMES = {INITIATION: "initiation", RESPONSE: "response", COOKIE_REPLY: "cookie reply", DATA: "data"}
LENGTHS = {INITIATION: 148, RESPONSE: 92, COOKIE_REPLY: 64}

CONSTRUCTION = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
TAI64_EPOCH = 0x400000000000000A
NO_PRESHARED_KEY = bytes(32)


class NotForUs(ValueError):
    """A message that does not check out: wrong key, wrong MAC, or not what was expected."""


def hash_of(*parts: bytes) -> bytes:
    return blake2s(b"".join(parts)).digest()


def mac_of(key: bytes, data: bytes) -> bytes:
    return blake2s(data, key=key, digest_size=16).digest()


def derive(key: bytes, material: bytes, count: int) -> list[bytes]:
    secret = hmac.digest(key, material, "blake2s")
    outputs, last = [], b""
    for number in range(1, count + 1):
        last = hmac.digest(secret, last + bytes([number]), "blake2s")
        outputs.append(last)
    return outputs


def seal(key: bytes, counter: int, plain: bytes, associated: bytes) -> bytes:
    return ChaCha20Poly1305(key).encrypt(struct.pack("<4xQ", counter), plain, associated)


def unseal(key: bytes, counter: int, sealed: bytes, associated: bytes) -> bytes:
    try:
        return ChaCha20Poly1305(key).decrypt(struct.pack("<4xQ", counter), sealed, associated)
    except InvalidTag:
        raise NotForUs("decryption failed") from None


@dataclass(frozen=True)
class Keys:
    private: bytes
    public: bytes

    @classmethod
    def generate(cls) -> Keys:
        return cls.of_private(os.urandom(32))

    @classmethod
    def of_private(cls, private: bytes) -> Keys:
        secret = X25519PrivateKey.from_private_bytes(private)
        return cls(
            secret.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()),
            secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw),
        )

    @classmethod
    def of_base64(cls, private: str) -> Keys:
        return cls.of_private(base64.b64decode(private))

    def agree(self, public: bytes) -> bytes:
        return X25519PrivateKey.from_private_bytes(self.private).exchange(
            X25519PublicKey.from_public_bytes(public)
        )


class Transcript:
    """Chaining key and hash of one handshake, the same on both sides."""

    def __init__(self, responder_public: bytes) -> None:
        self.key = hash_of(CONSTRUCTION)
        self.hash = hash_of(hash_of(self.key, IDENTIFIER), responder_public)

    def mix_hash(self, data: bytes) -> bytes:
        self.hash = hash_of(self.hash, data)
        return data

    def mix_key(self, material: bytes) -> None:
        (self.key,) = derive(self.key, material, 1)

    def cipher_key(self, material: bytes) -> bytes:
        self.key, cipher_key = derive(self.key, material, 2)
        return cipher_key

    def seal(self, key: bytes, plain: bytes) -> bytes:
        return self.mix_hash(seal(key, 0, plain, self.hash))

    def unseal(self, key: bytes, sealed: bytes) -> bytes:
        plain = unseal(key, 0, sealed, self.hash)
        self.mix_hash(sealed)
        return plain

    def preshared_key(self) -> bytes:
        self.key, mixed, cipher_key = derive(self.key, NO_PRESHARED_KEY, 3)
        self.mix_hash(mixed)
        return cipher_key


def timestamp_now() -> bytes:
    """TAI64N. At full resolution, so that two are never the same."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return struct.pack("!QI", TAI64_EPOCH + seconds, nanoseconds)


def with_macs(message: bytes, receiver_public: bytes, cookie: bytes | None) -> bytes:
    """Appends mac1, and mac2 where there is a cookie."""
    message += mac_of(hash_of(b"mac1----", receiver_public), message)
    return message + (mac_of(cookie, message) if cookie else bytes(16))


def check_mac1(message: bytes, own_public: bytes) -> None:
    if message[-32:-16] != mac_of(hash_of(b"mac1----", own_public), message[:-32]):
        raise NotForUs("mac1 is wrong")


def corrupt_mac1(message: bytes) -> bytes:
    return message[:-32] + bytes([message[-32] ^ 1]) + message[-31:]


def nobodys_initiation(receiver_public: bytes) -> bytes:
    """An initiation with a valid mac1 and nothing behind it: costs its sender a hash, its receiver a DH."""
    return with_macs(struct.pack("<II", INITIATION, random_index()) + os.urandom(108), receiver_public, None)


def random_index() -> int:
    return int.from_bytes(os.urandom(4), "little")


def kind_of(message: bytes) -> int:
    kind = int.from_bytes(message[:4], "little")
    if kind == DATA and len(message) >= 32:
        return kind
    if LENGTHS.get(kind) != len(message):
        raise NotForUs(f"not a WireGuard message: {len(message)} bytes, first word {kind}")
    return kind


@dataclass
class Session:
    """Transport keys after a handshake. `receiver` is the index that the other side chose."""

    send_key: bytes
    receive_key: bytes
    receiver: int
    counter: int = 0

    def data(self, packet: bytes = b"") -> bytes:
        """An encrypted packet; without content it is a keepalive."""
        sealed = seal(self.send_key, self.counter, packet + bytes(-len(packet) % 16), b"")
        message = struct.pack("<IIQ", DATA, self.receiver, self.counter) + sealed
        self.counter += 1
        return message

    def read(self, message: bytes) -> bytes:
        return unseal(self.receive_key, int.from_bytes(message[8:16], "little"), message[16:], b"")


class Initiation:
    """An initiation made here, and what is needed to read the answer."""

    def __init__(self, keys: Keys, responder_public: bytes, cookie: bytes | None = None) -> None:
        self.keys = keys
        self.responder_public = responder_public
        self.index = random_index()
        self.ephemeral = Keys.generate()
        self.transcript = transcript = Transcript(responder_public)
        transcript.mix_key(self.ephemeral.public)
        transcript.mix_hash(self.ephemeral.public)
        cipher_key = transcript.cipher_key(self.ephemeral.agree(responder_public))
        sealed_static = transcript.seal(cipher_key, keys.public)
        cipher_key = transcript.cipher_key(keys.agree(responder_public))
        sealed_timestamp = transcript.seal(cipher_key, timestamp_now())
        self.message = with_macs(
            struct.pack("<II", INITIATION, self.index)
            + self.ephemeral.public
            + sealed_static
            + sealed_timestamp,
            responder_public,
            cookie,
        )

    def session(self, response: bytes) -> Session:
        sender, receiver = struct.unpack("<II", response[4:12])
        if receiver != self.index:
            raise NotForUs("the response is to another initiation")
        check_mac1(response, self.keys.public)
        ephemeral, transcript = response[12:44], self.transcript
        transcript.mix_key(ephemeral)
        transcript.mix_hash(ephemeral)
        transcript.mix_key(self.ephemeral.agree(ephemeral))
        transcript.mix_key(self.keys.agree(ephemeral))
        transcript.unseal(transcript.preshared_key(), response[44:60])
        send_key, receive_key = derive(transcript.key, b"", 2)
        return Session(send_key, receive_key, sender)

    def cookie(self, reply: bytes) -> bytes:
        """The cookie in a reply to this initiation."""
        if int.from_bytes(reply[4:8], "little") != self.index:
            raise NotForUs("the cookie is for another initiation")
        key = hash_of(b"cookie--", self.responder_public)
        return unseal_extended(key, reply[8:32], reply[32:], self.message[-32:-16])


def read_initiation(keys: Keys, initiator_public: bytes, message: bytes) -> Transcript:
    """Checks an initiation that was sent to us as thoroughly as WireGuard does."""
    check_mac1(message, keys.public)
    transcript = Transcript(keys.public)
    transcript.mix_key(message[8:40])
    transcript.mix_hash(message[8:40])
    cipher_key = transcript.cipher_key(keys.agree(message[8:40]))
    if transcript.unseal(cipher_key, message[40:88]) != initiator_public:
        raise NotForUs("an initiation by somebody else")
    transcript.unseal(transcript.cipher_key(keys.agree(initiator_public)), message[88:116])
    return transcript


def respond(keys: Keys, initiator_public: bytes, initiation: bytes) -> tuple[bytes, Session, int]:
    """The response to an initiation, the session that it makes, and the index that we chose."""
    transcript = read_initiation(keys, initiator_public, initiation)
    initiator_index, initiator_ephemeral = initiation[4:8], initiation[8:40]
    ephemeral, index = Keys.generate(), random_index()
    transcript.mix_key(ephemeral.public)
    transcript.mix_hash(ephemeral.public)
    transcript.mix_key(ephemeral.agree(initiator_ephemeral))
    transcript.mix_key(ephemeral.agree(initiator_public))
    empty = transcript.seal(transcript.preshared_key(), b"")
    message = struct.pack("<II", RESPONSE, index) + initiator_index + ephemeral.public + empty
    receive_key, send_key = derive(transcript.key, b"", 2)
    session = Session(send_key, receive_key, int.from_bytes(initiator_index, "little"))
    return with_macs(message, initiator_public, None), session, index


def cookie_reply(keys: Keys, message: bytes, cookie: bytes) -> bytes:
    """Tells the sender of a handshake message to come again with this cookie."""
    nonce = os.urandom(24)
    sealed = seal_extended(hash_of(b"cookie--", keys.public), nonce, cookie, message[-32:-16])
    return struct.pack("<I", COOKIE_REPLY) + message[4:8] + nonce + sealed


def has_mac2(message: bytes, cookie: bytes) -> bool:
    return message[-16:] == mac_of(cookie, message[:-16])


# XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha): the key for the first 16 bytes of the nonce, then as usual.


def seal_extended(key: bytes, nonce: bytes, plain: bytes, associated: bytes) -> bytes:
    cipher = ChaCha20Poly1305(chacha_subkey(key, nonce[:16]))
    return cipher.encrypt(bytes(4) + nonce[16:], plain, associated)


def unseal_extended(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
    try:
        cipher = ChaCha20Poly1305(chacha_subkey(key, nonce[:16]))
        return cipher.decrypt(bytes(4) + nonce[16:], sealed, associated)
    except InvalidTag:
        raise NotForUs("the cookie was not made for this message") from None


def chacha_subkey(key: bytes, nonce: bytes) -> bytes:
    """HChaCha20, which the library does not have."""
    state = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce))

    def rotate(value: int, by: int) -> int:
        return (value << by | value >> (32 - by)) & 0xFFFFFFFF

    def quarter(a: int, b: int, c: int, d: int) -> None:
        for left, right, changed, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[left] = (state[left] + state[right]) & 0xFFFFFFFF
            state[changed] = rotate(state[changed] ^ state[left], by)

    for _ in range(10):
        for column in range(4):
            quarter(column, 4 + column, 8 + column, 12 + column)
        for row in range(4):
            quarter(row, 4 + (row + 1) % 4, 8 + (row + 2) % 4, 12 + (row + 3) % 4)
    return struct.pack("<8I", *state[:4], *state[12:])
