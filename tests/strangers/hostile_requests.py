"""Requests whose few bytes are to become many, written byte by byte."""

import struct

MIB = 2**20
LARGE = 57 * MIB
FLOAT, INT32, STRING = 1, 3, 7


def varint(number):
    """Return a number as protobuf writes it."""
    groups = bytearray()
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def field(number, content):
    """Return a field: of bytes, or of a whole number."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def spec(signature=""):
    return field(1, field(1, b"tiny") + field(3, signature.encode()))


def tensor(dtype, shape, content=b""):
    dims = b"".join(field(2, field(1, size)) for size in shape)
    return field(1, dtype) + field(2, dims) + content


def predict(name, tensor_bytes, signature=""):
    return spec(signature) + field(2, field(1, name) + field(2, tensor_bytes))


def many(part, n_bytes=LARGE):
    """Repeat a field up to a length."""
    return part * (n_bytes // len(part))


def nested(depth):
    """A tensor of variants, whose tensors are tensors of variants."""
    inner = b""
    for _ in range(depth):
        inner = field(15, field(3, inner))
    return inner


IMAGES = b"images"
# Each of about 57 MiB.
AMPLIFYING = {
    "dimensions": predict(IMAGES, field(1, FLOAT) + field(2, many(field(2, b"")))),
    "shapes": predict(IMAGES, field(1, FLOAT) + many(field(2, field(2, b"")))),
    "names of dimensions": predict(IMAGES, field(2, field(2, field(2, bytes(LARGE))))),
    "output filters": spec() + many(field(3, b"")),
    "one output filter": spec() + field(3, b"x" * LARGE),
    "strings": predict(b"image_bytes", tensor(STRING, [2**25], many(field(8, b""))), "encode_bytes"),
    "inputs": spec() + many(field(2, b"")),
    "one input again and again": spec() + many(field(2, field(1, IMAGES) + field(2, b""))),
    "unknown fields": spec() + many(field(1000, 1)),
    "unknown fields of a tensor": predict(IMAGES, many(field(1000, 1))),
    "unknown groups": spec() + many(varint(1000 << 3 | 3) + varint(1000 << 3 | 4)),
    "dtypes": predict(IMAGES, many(field(1, FLOAT))),
    "unpacked numbers": predict(IMAGES, tensor(FLOAT, [2**24], many(varint(5 << 3 | 5) + struct.pack("<f", 1.0)))),
    "packed numbers of a byte": predict(b"rows", tensor(INT32, [LARGE], field(7, bytes(LARGE))), "describe"),
    "resources": predict(IMAGES, many(field(14, b""))),
    "variants": predict(IMAGES, many(nested(20))),
    "model specs": many(field(1, field(2, b""))),
    "a model's name": field(1, field(1, b"x" * LARGE)),
    "no message": b"\xff" * LARGE,
}

# Small ones.
EXPANDING = {
    "a row repeated": predict(b"rows", tensor(INT32, [2**25], field(7, b"\0")), "describe"),
    "rows without values": predict(b"rows", tensor(INT32, [2**25]), "describe"),
    "a pixel repeated": predict(IMAGES, tensor(FLOAT, [80_000, 16, 16, 3], field(5, bytes(4)))),
    "a file repeated": predict(b"image_bytes", tensor(STRING, [2**16], field(8, b"GIF89a")), "encode_bytes"),
    "a rank": predict(IMAGES, field(1, FLOAT) + field(2, many(field(2, b""), 60_000))),
    "sizes beyond count": predict(IMAGES, tensor(FLOAT, [2**62] * 200)),
}
ROWS = predict(b"rows", tensor(INT32, [LARGE // 4], field(4, bytes(LARGE // 4 * 4))), "describe")
