"""Thrift's compact protocol, as far as Parquet's own words about a file need it, with bounds on all that it may say.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

# Kinds of fields.
_TRUE, _FALSE, _BYTE, _I16, I32, I64, _DOUBLE, _BINARY, LIST, _SET, _MAP, STRUCT = range(1, 13)
_WHOLE = (_I16, I32, I64)

# Field by number: its kind and, of numbers, structures and lists of structures, its value.
Fields = dict[int, tuple[int, "int | Fields | list[Fields]"]]


class Compact:
    """Reads bytes.

    Args:
        content: The bytes.
        most: How many structures, fields and members of lists they may hold.

    Attributes:
        at: Where the next byte is.
    """

    def __init__(self, content: bytes, most: int) -> None:
        self._content, self._left = content, most
        self.at = 0

    def structure(self, depth: int) -> Fields:
        """Read a structure, at most so many levels deep.

        Raises:
            ValueError: It is malformed, cut short, too deep, or holds too much.
        """
        fields: Fields = {}
        number = 0
        for head in iter(self._byte, 0):
            self._count(1)
            step, kind = divmod(head, 16)
            number = number + step if step else self._signed()
            # Who reads such a field a second time may take either.
            if number in fields:
                raise ValueError("it says something twice")
            fields[number] = kind, self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> "int | Fields | list[Fields]":
        if kind in (_TRUE, _FALSE):
            return int(kind == _TRUE)
        if kind == _BYTE:
            return self._byte()
        if kind in _WHOLE:
            return self._signed()
        if depth and kind == STRUCT:
            return self.structure(depth - 1)
        if depth and kind in (LIST, _SET):
            return self._list(depth - 1)
        if kind not in (_BINARY, _DOUBLE):
            raise ValueError("it has unknown fields, or is too deep")
        length = 8 if kind == _DOUBLE else self._varint()
        self.at += length
        return 0

    def _list(self, depth: int) -> list[Fields]:
        size, kind = divmod(self._byte(), 16)
        if size == 15:
            size = self._varint()
        self._count(size)
        if kind == STRUCT and depth:
            return [self.structure(depth - 1) for _ in range(size)]
        for _ in range(size):
            self._value(_BYTE if kind in (_TRUE, _FALSE) else kind, depth)
        return []

    def _count(self, more: int) -> None:
        self._left -= more
        if self._left < 0:
            raise ValueError("it has too many parts")

    def _signed(self) -> int:
        folded = self._varint()
        return (folded >> 1) ^ -(folded & 1)

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("it has a number of more than 64 bits")

    def _byte(self) -> int:
        if self.at >= len(self._content):
            raise ValueError("it is cut short, or too long")
        self.at += 1
        return self._content[self.at - 1]
