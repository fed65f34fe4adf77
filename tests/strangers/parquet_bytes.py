"""Parquet files written byte by byte, so that they can say what no writer would."""

import struct

# Kinds of Thrift's compact protocol.
I32, I64, BINARY, LIST, STRUCT = 5, 6, 8, 9, 12
# Of Parquet.
FLOAT, BYTE_ARRAY = 4, 6
PLAIN, RLE, RLE_DICTIONARY = 0, 3, 8
REQUIRED, OPTIONAL, REPEATED = 0, 1, 2
NOT_PACKED, GZIP = 0, 2
UTF8, LISTS = 0, 3


class Encoded(bytes):
    """A structure as it is written."""


def varint(value):
    """Return a whole number, seven bits a byte."""
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def number(value):
    """Return a signed number, folded."""
    return varint((value << 1) ^ (value >> 63))


def thrift(fields):
    """Return a structure: `{field: value}`, with ints as i32, `I64(...)` tuples as they say, dicts, texts and lists."""
    out, last = bytearray(), 0
    for field, value in sorted(fields.items()):
        kind, content = encoded(value)
        step = field - last
        out += bytes([step << 4 | kind]) if 0 < step < 16 else bytes([kind]) + number(field)
        out += content
        last = field
    return bytes(out) + b"\0"


def encoded(value):
    """Return kind and bytes of a value."""
    if isinstance(value, Encoded):
        return STRUCT, value
    if isinstance(value, tuple):
        return value[0], number(value[1])
    if isinstance(value, int):
        return I32, number(value)
    if isinstance(value, dict):
        return STRUCT, thrift(value)
    if isinstance(value, list):
        parts = [encoded(one) for one in value]
        kind, size = parts[0][0] if parts else STRUCT, len(parts)
        head = bytes([size << 4 | kind]) if size < 15 else bytes([0xF0 | kind]) + varint(size)
        return LIST, head + b"".join(part for _, part in parts)
    raw = value.encode() if isinstance(value, str) else value
    return BINARY, varint(len(raw)) + raw


def run(value, count):
    """Return a run of equal numbers of at most 8 bits."""
    return varint(count << 1) + bytes([value])


def levels(*runs):
    """Return runs with the length before them."""
    body = b"".join(runs)
    return struct.pack("<I", len(body)) + body


def dictionary_page(body, values, *, size=None):
    """Return a page of a dictionary that says it has so many values, and so many bytes when unpacked."""
    return thrift({1: 2, 2: len(body) if size is None else size, 3: len(body), 7: {1: values, 2: PLAIN}}) + body


def data_page(body, values, *, encoding=RLE_DICTIONARY, size=None):
    """Return a page of data that says it has so many values, and so many bytes when unpacked."""
    said = {1: values, 2: encoding, 3: RLE, 4: RLE}
    return thrift({1: 0, 2: len(body) if size is None else size, 3: len(body), 5: said}) + body


def key_chunk(count):
    """Return pages of keys: count different texts."""
    texts = b"".join(struct.pack("<I", 6) + b"%06d" % at for at in range(count))
    return b"", data_page(texts, count, encoding=PLAIN)


def latent_chunk(runs, values):
    """Return pages of latents whose floats are all 1; the runs tell where each begins: 0 for a new one, 1 for more."""
    body = levels(*[run(level, count) for level, count in runs]) + levels(run(3, values)) + b"\1" + run(0, values)
    return dictionary_page(struct.pack("<f", 1.0), 1), data_page(body, values)


SCHEMA = [
    {4: "schema", 5: 2},
    {1: BYTE_ARRAY, 3: REQUIRED, 4: "key", 6: UTF8},
    {3: OPTIONAL, 4: "latent", 5: 1, 6: LISTS},
    {3: REPEATED, 4: "list", 5: 1},
    {1: FLOAT, 3: OPTIONAL, 4: "element"},
]


def column(kind, path, at, chunk, values, *, codec=NOT_PACKED, **changes):
    """Return what the footer says of a column chunk that lies at a place."""
    dictionary, data = chunk
    size = (I64, len(dictionary + data))
    said = {1: kind, 2: [PLAIN, RLE, RLE_DICTIONARY], 3: path, 4: codec, 5: (I64, values), 6: size, 7: size}
    said[9] = (I64, at + len(dictionary))
    if dictionary:
        said[11] = (I64, at)
    said.update({int(field[1:]): value for field, value in changes.items()})
    return {2: (I64, at), 3: said}


def parquet(keys, latents, rows, values, **options):
    """Return a file of keys and latents.

    Args:
        keys: Pages of the keys.
        latents: Pages of the latents.
        rows: What the footer says of the number of rows.
        values: What it says of the number of floats.
        options: Changes of what it says: `latent` for the column of latents, `footer` for the whole.
    """
    first, second = b"".join(keys), b"".join(latents)
    columns = [
        column(BYTE_ARRAY, ["key"], 4, keys, rows),
        column(FLOAT, ["latent", "list", "element"], 4 + len(first), latents, values, **options.get("latent", {})),
    ]
    groups = [{1: columns, 2: (I64, len(first + second)), 3: (I64, rows)}]
    return file_of(first + second, {1: 1, 2: SCHEMA, 3: (I64, rows), 4: groups} | options.get("footer", {}))


def file_of(body, footer):
    """Return a file of a body and a footer."""
    end = footer if isinstance(footer, bytes) else thrift(footer)
    return b"PAR1" + body + end + struct.pack("<I", len(end)) + b"PAR1"
