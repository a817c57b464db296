"""Read a flatbuffer without trusting it: every offset is checked before it is followed.

Source: https://flatbuffers.dev/internals. Only tables, vectors and scalars are needed for a TFLite file.
"""

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_TABLES = 5000  # in one vector; the largest network has 700 tensors
MAX_NUMBERS = 65_536  # in one vector that is read as a tuple; a scale per channel is the longest
VTABLE_HEADER_BYTES = 4
OFFSET = struct.Struct("<I")
SIGNED_OFFSET = struct.Struct("<i")
VTABLE_SIZE = struct.Struct("<H")
SCALARS = {code: struct.Struct(f"<{code}") for code in "?bBhHiIqQfd"}


class FlatbufferError(ValueError):
    """Bytes that are not a valid flatbuffer."""


def read_root(data: bytes) -> "Table":
    """Return the root table of a flatbuffer.

    Raises:
        FlatbufferError: If the table is outside the data.
    """
    return Table(data, _number(OFFSET, data, 0))


class Table:
    """A table of a flatbuffer.

    Args:
        data: The flatbuffer.
        position: Position of the table in it.

    Raises:
        FlatbufferError: If the table or its vtable is outside the data.
    """

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position
        vtable = position - _number(SIGNED_OFFSET, data, position)
        size = _number(VTABLE_SIZE, data, vtable)
        if size < VTABLE_HEADER_BYTES or size % 2 or vtable + size > len(data):
            raise FlatbufferError(f"a vtable of {size} bytes at {vtable}")
        self._slots: tuple[int, ...] = struct.unpack_from(f"<{size // 2 - 1}H", data, vtable + 2)[1:]
        self._table_bytes = _number(VTABLE_SIZE, data, vtable + 2)
        if position + self._table_bytes > len(data):
            raise FlatbufferError(f"a table of {self._table_bytes} bytes at {position}")

    @property
    def fields(self) -> int:
        """Return the number of fields that the table may have."""
        return len(self._slots)

    def has(self, slot: int) -> bool:
        """Return whether a field is present."""
        return slot < len(self._slots) and self._slots[slot] != 0

    def scalar(self, slot: int, code: str = "i", default: Any = 0) -> Any:
        """Return a number.

        Args:
            slot: Number of the field in the schema.
            code: Type, as in the module struct.
            default: Value of a field that is not present.

        Raises:
            FlatbufferError: If the field is outside its table.
        """
        position = self._field(slot, SCALARS[code].size)
        return default if position is None else _number(SCALARS[code], self._data, position)

    def array(self, slot: int, dtype: str) -> npt.NDArray[Any]:
        """Return a vector of numbers without copying it, empty if it is not present.

        Args:
            slot: Number of the field in the schema.
            dtype: Type of the numbers, little-endian, for example ``<i4``.

        Raises:
            FlatbufferError: If the vector is outside the data.
        """
        kind = np.dtype(dtype)
        start, count = self._vector(slot, kind.itemsize)
        return np.frombuffer(self._data, kind, count, start) if count else np.empty(0, kind)

    def numbers(self, slot: int, code: str) -> tuple[Any, ...]:
        """Return a short vector of numbers, empty if it is not present.

        Args:
            slot: Number of the field in the schema.
            code: Type of the numbers, as in the module struct.

        Raises:
            FlatbufferError: If the vector is outside the data, or has more than MAX_NUMBERS entries.
        """
        start, count = self._vector(slot, SCALARS[code].size)
        if count > MAX_NUMBERS:
            raise FlatbufferError(f"a vector of {count} numbers; the maximum is {MAX_NUMBERS}")
        return struct.unpack_from(f"<{count}{code}", self._data, start) if count else ()

    def text(self, slot: int) -> bytes:
        """Return a string, empty if it is not present.

        Raises:
            FlatbufferError: If it is outside the data, or the zero byte after it is missing.
        """
        start, count = self._vector(slot, 1)
        if start and self._data[start + count : start + count + 1] != b"\0":
            raise FlatbufferError(f"a string at {start} does not end")
        return self._data[start : start + count]

    def table(self, slot: int) -> "Table | None":
        """Return a table, None if it is not present.

        Raises:
            FlatbufferError: If it is outside the data.
        """
        position = self._reference(slot)
        return None if position is None else Table(self._data, position)

    def tables(self, slot: int) -> list["Table"]:
        """Return a vector of tables, empty if it is not present.

        Raises:
            FlatbufferError: If it is outside the data, or has more than MAX_TABLES entries.
        """
        start, count = self._vector(slot, OFFSET.size)
        if count > MAX_TABLES:
            raise FlatbufferError(f"a vector of {count} tables; the maximum is {MAX_TABLES}")
        positions = range(start, start + OFFSET.size * count, OFFSET.size)
        return [Table(self._data, position + _number(OFFSET, self._data, position)) for position in positions]

    def _field(self, slot: int, size: int) -> int | None:
        offset = self._slots[slot] if slot < len(self._slots) else 0
        if not offset:
            return None
        if offset < OFFSET.size or offset + size > self._table_bytes:
            raise FlatbufferError(f"the field {slot} of the table at {self._position} is outside it")
        return self._position + offset

    def _reference(self, slot: int) -> int | None:
        position = self._field(slot, OFFSET.size)
        return None if position is None else position + _number(OFFSET, self._data, position)

    def _vector(self, slot: int, item_bytes: int) -> tuple[int, int]:
        """Return position and length of a vector, (0, 0) if it is not present."""
        position = self._reference(slot)
        if position is None:
            return 0, 0
        count = _number(OFFSET, self._data, position)
        start = position + OFFSET.size
        if start + count * item_bytes > len(self._data):
            raise FlatbufferError(f"a vector of {count} entries at {position}")
        if start % item_bytes:
            raise FlatbufferError(f"a vector at {position} is not aligned")
        return start, count


def _number(kind: struct.Struct, data: bytes, position: int) -> Any:
    if position < 0 or position + kind.size > len(data):
        raise FlatbufferError(f"an offset to {position}, outside the {len(data)} bytes")
    return kind.unpack_from(data, position)[0]
