"""Write the wire messages of TensorFlow Serving that the client speaks, as one FileDescriptorSet.

usage: python tools/wire_descriptors.py [--check]

Taken from the installed tensorflow-serving-api, so that the client needs neither it nor TensorFlow. With --check
nothing is written; exit code 1 says that the committed file differs.
"""

import sys
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

OUTPUT = Path(__file__).resolve().parents[1] / "ae_search" / "client" / "wire.binpb"


def descriptor_set() -> bytes:
    """Return the serialized set: each file after those that it imports."""
    from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def add(file: Any) -> None:
        if file.name in found:
            return
        for dependency in file.dependencies:
            add(dependency)
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        found[file.name] = proto

    for module in (predict_pb2, get_model_status_pb2, get_model_metadata_pb2):
        add(module.DESCRIPTOR)
    return descriptor_pb2.FileDescriptorSet(file=found.values()).SerializeToString(deterministic=True)


def main() -> int:
    """Write or check the file."""
    wanted = descriptor_set()
    if "--check" in sys.argv[1:]:
        same = OUTPUT.is_file() and OUTPUT.read_bytes() == wanted
        if not same:
            print(f"{OUTPUT} differs from tensorflow-serving-api; run {Path(__file__).name}", file=sys.stderr)
        return 0 if same else 1
    OUTPUT.write_bytes(wanted)
    print(f"wrote {OUTPUT}: {len(wanted)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
