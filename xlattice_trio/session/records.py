"""Records: sealing and opening, sequence numbers and generations, one object per direction.

`Sealer` and `Opener` own the keys. Neither knows what a record means in the session's course: that is `connection`'s.
The invariant: under one key every sequence number is used once, in order, and the one before the last possible is
always followed by Rekey. One AEAD call and one copy of the payload per record. Spec 6.2 to 6.4.
"""

from xlattice_trio.crypto import AEADKey, NotOpened, aead_key, open_into, seal_into
from xlattice_trio.errors import RecordError
from xlattice_trio.handshake.key_schedule import generation
from xlattice_trio.limits import GENERATION_AGE, GENERATION_RECORDS, TAG_SIZE
from xlattice_trio.wire.framing import HEADER_SIZE, frame_header
from xlattice_trio.wire.messages import FrameKind, RecordType

_LAST = GENERATION_RECORDS - 1  # the sequence number at which nothing but Rekey is sent
_TYPES = {int(type_): type_ for type_ in RecordType}


class _Keys:
    """One direction's generations: the key and IV in use, and where the count stands."""

    def __init__(self, secret: bytes) -> None:
        self.generation = -1
        self._begin(secret)

    def _begin(self, secret: bytes) -> None:
        keys = generation(secret)
        self._aead: AEADKey = aead_key(keys.key)
        self._iv = int.from_bytes(keys.iv, "big")
        self._next_secret = keys.next_secret
        self.generation += 1
        self.seq = 0  # [SE-15]

    def _nonce(self) -> bytes:
        return (self._iv ^ self.seq).to_bytes(12, "big")  # [SE-7]

    def erase(self) -> None:
        """Forget the keys: nothing is sealed or opened any more. To be called once. [SE-78]"""
        del self._aead, self._iv, self._next_secret


class Sealer(_Keys):
    """Seals the records of one direction. Not to be shared: two sealers of one secret would use a nonce twice."""

    def __init__(self, secret: bytes) -> None:
        super().__init__(secret)
        self._first_sealed_at: float | None = None

    def rekey_due(self, now: float) -> bool:
        """Whether Rekey has to go before any other record. `now` is in seconds.

        A generation without a record has nothing to rekey, however long it has been idle. [SE-22] [SE-25]
        """
        if self._first_sealed_at is None:
            return False
        return self.seq == _LAST or now - self._first_sealed_at > GENERATION_AGE  # [SE-21] [SE-23] [SE-24]

    def seal(self, type_: RecordType, payload: bytes | bytearray | memoryview, now: float) -> bytearray:
        """The frame of the next record, and of a Rekey before it if one is due. `payload` is at most 65,536 bytes.

        A Rekey comes by itself; who asks for one ([SE-26]) gets that one alone, and has sealed something before it.
        """
        if type_ is RecordType.REKEY or not self.rekey_due(now):
            return self._seal(type_, payload, now)
        frames = self._seal(RecordType.REKEY, b"", now)
        frames += self._seal(type_, payload, now)
        return frames

    def _seal(self, type_: RecordType, payload: bytes | bytearray | memoryview, now: float) -> bytearray:
        plaintext = bytearray((type_,))
        plaintext += payload
        header = frame_header(FrameKind.RECORD, len(plaintext) + TAG_SIZE)  # [SE-5]
        frame = bytearray(HEADER_SIZE + len(plaintext) + TAG_SIZE)
        frame[:HEADER_SIZE] = header
        with memoryview(frame) as view, view[HEADER_SIZE:] as body:
            seal_into(self._aead, self._nonce(), header, plaintext, body)  # [SE-6] [SE-8]
        self.seq += 1  # [SE-16]
        if self._first_sealed_at is None:
            self._first_sealed_at = now
        if type_ is RecordType.REKEY:
            self._begin(self._next_secret)  # [SE-19] [SE-76]
            self._first_sealed_at = None
        return frame


class Opener(_Keys):
    """Opens the records of one direction. It knows no clock: the age of a generation is its sender's affair. [SE-27]"""

    def open(self, frame: memoryview) -> tuple[RecordType, bytearray]:
        """Type and payload of the next record; the payload is a new buffer, the caller's.

        Raises RecordError if the record does not open, is of no known type, or breaks the rules of Rekey.
        """
        plaintext = bytearray(len(frame) - HEADER_SIZE - TAG_SIZE)
        with frame[HEADER_SIZE:] as body:
            try:
                open_into(self._aead, self._nonce(), bytes(frame[:HEADER_SIZE]), body, plaintext)
            except NotOpened:  # [SE-12]
                raise RecordError(
                    2, f"record {self.seq} of generation {self.generation} does not open: damaged, or out of order"
                ) from None
        type_ = _TYPES.get(plaintext[0])
        if type_ is None:
            raise RecordError(3, f"a record of the unknown type {plaintext[0]}")  # [SE-13]
        rekey = type_ is RecordType.REKEY
        if rekey and self.seq == 0:
            raise RecordError(4, "Rekey as the first record of a generation")  # [SE-13]
        if self.seq == _LAST and not rekey:
            raise RecordError(4, f"{type_.name} as the last record of a generation, where Rekey is due")  # [SE-13]
        del plaintext[0]  # moves no bytes: a bytearray only shifts its start
        self.seq += 1
        if rekey:
            self._begin(self._next_secret)  # [SE-20] [SE-77]
        return type_, plaintext
