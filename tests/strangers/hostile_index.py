"""Index folders of an enemy: each case turns a good index into one that reaches for a file of the user.

More cases: write a function of the index folder and the victim's path, and give it a name with `@case` or `add_case`.
"""

import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ae_search.index.items.changes import CHANGES, digest_of_files
from ae_search.index.manifest import MANIFEST, _with_digest
from ae_search.index.sqlite.database import connect
from ae_search.index.store.proof import describe_file

TEXT = b"what the user would not want to lose\n" * 8
MAGIC = bytes.fromhex("d9d505f920a163d7")


@dataclass(frozen=True)
class HostileCase:
    """One kind of hostile index.

    Attributes:
        make: Turns a good index into it; takes the index folder and the victim's path.
        victim: What the victim holds, from the folder of the good index.
        is_run_outside: Whether it may kill the process, so that it needs one of its own.
    """

    make: Callable[[Path, Path], None]
    victim: Callable[[Path], bytes] = lambda index: TEXT
    is_run_outside: bool = False


CASES: dict[str, HostileCase] = {}


def add_case(name: str, make: Callable[[Path, Path], None], **options) -> None:
    """Add a case by its name; options are those of `HostileCase`."""
    assert name not in CASES, name
    CASES[name] = HostileCase(make, **options)


def case(name: str, **options):
    """Add the function below as a case."""

    def add(make):
        add_case(name, make, **options)
        return make

    return add


def generation(index: Path) -> Path:
    """Return the live generation's folder."""
    return index / (index / "CURRENT").read_text().strip()


def sign(folder: Path, **changes) -> None:
    """Let manifest and changes vouch for the bytes that the files have now."""
    raw = json.loads((folder / MANIFEST).read_text())
    files = {name: describe_file(folder / name) for name in raw["files"]}
    raw["files"] = {name: vars(proof) for name, proof in files.items()}
    del raw["sha256"]
    (folder / MANIFEST).write_text(_with_digest(raw | changes))
    connection = connect(folder / CHANGES, "mode=rw")
    connection.execute("UPDATE base SET files = ?", (digest_of_files(files),))
    connection.close()


def super_journal(victim: Path, *, header: int = 512, records: bytes = b"") -> bytes:
    """Return a hot journal that makes SQLite delete another file; `header` is the size of its sectors."""
    name = os.fsencode(victim)
    head = MAGIC + (0).to_bytes(4) + b"\1\2\3\4" + (11).to_bytes(4) + header.to_bytes(4) + (4096).to_bytes(4)
    checksum = sum(byte - 256 * (byte > 127) for byte in name) % 2**32
    tail = (0x40000000 // 4096 + 1).to_bytes(4) + name + len(name).to_bytes(4) + checksum.to_bytes(4) + MAGIC
    return head.ljust(header, b"\0") + records + tail


def _put(place: Path, kind: str, victim: Path) -> None:
    """Put something that is no plain file of its own in a file's place."""
    content = place.read_bytes() if place.is_file() else b""
    place.unlink(missing_ok=True)
    if kind == "link to the victim":
        place.symlink_to(victim)
    elif kind == "link to its own content":
        outside = victim.with_name(place.name)
        outside.write_bytes(content)
        place.symlink_to(outside)
    elif kind == "hard link":
        os.link(victim, place)
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "endless device":
        place.symlink_to("/dev/zero")
    elif kind == "link to nothing":
        place.symlink_to(victim.with_name("not there"))
    elif kind == "folder":
        place.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            # A path of a socket may have 107 bytes only.
            before = os.open(".", os.O_RDONLY)
            try:
                os.chdir(place.parent)
                listener.bind(place.name)
            finally:
                os.fchdir(before)
                os.close(before)


_KINDS = (
    "link to the victim",
    "link to its own content",
    "link to nothing",
    "hard link",
    "pipe",
    "socket",
    "endless device",
    "folder",
)
_IN_INDEX = ("CURRENT", ".lock", ".epoch")
_FEWER = ("link to the victim", "hard link", "pipe", "folder")
_IN_GENERATION = ("manifest.json", "forest.ann", "catalogue.sqlite", "names.bin", CHANGES)
_BESIDE = tuple(f"{name}{suffix}" for name in ("catalogue.sqlite", CHANGES) for suffix in ("-journal", "-wal", "-shm"))


def _add_kinds(name: str, in_index: bool, kinds: tuple[str, ...] = _KINDS) -> None:
    # A hard link is one to what the file held, so that all else about it is right.
    def held(index):
        path = (index if in_index else generation(index)) / name
        return path.read_bytes() if path.is_file() else b"\0" * 4096

    for kind in kinds:

        def make(index, victim, kind=kind):
            _put((index if in_index else generation(index)) / name, kind, victim)

        add_case(f"{name} is a {kind}", make, victim=held if kind == "hard link" else lambda index: TEXT)


for _name in _IN_INDEX:
    _add_kinds(_name, True)
for _name in _IN_GENERATION:
    _add_kinds(_name, False)
for _name in (".proved.json", *_BESIDE):
    _add_kinds(_name, False, _FEWER)


@case("the counter is a link to a file of eight bytes", victim=lambda index: b"\2\0\0\0\0\0\0\0")
def _eight_bytes(index, victim):
    _put(index / ".epoch", "link to the victim", victim)


def _add_super_journals() -> None:
    for name in (CHANGES, "catalogue.sqlite"):
        for header in (512, 4096, 65536):

            def make(index, victim, name=name, header=header):
                journal = generation(index) / f"{name}-journal"
                journal.write_bytes(super_journal(victim, header=header))

            add_case(f"{name}-journal of sectors of {header} names a super-journal", make)


_add_super_journals()


@case("a hot journal of a hard link", victim=lambda index: (generation(index) / CHANGES).read_bytes())
def _hot_journal_of_a_hard_link(index, victim):
    """What SQLite takes back, it writes into the file, whatever other name that has."""
    database = generation(index) / CHANGES
    content = database.read_bytes()
    _put(database, "hard link", victim)
    size = int.from_bytes(content[16:18])
    page = content[:100] + b"\xff" * (size - 100)
    nonce = 7
    checksum = (nonce + sum(page[at] for at in range(size - 200, 0, -200))) % 2**32
    head = MAGIC + (1).to_bytes(4) + nonce.to_bytes(4) + (len(content) // size).to_bytes(4)
    head += (512).to_bytes(4) + size.to_bytes(4)
    record = (1).to_bytes(4) + page + checksum.to_bytes(4)
    (database.with_name(f"{CHANGES}-journal")).write_bytes(head.ljust(512, b"\0") + record)


@case("the changes have a write-ahead log by their header")
def _write_ahead(index, victim):
    database = generation(index) / CHANGES
    content = bytearray(database.read_bytes())
    content[18] = content[19] = 2
    database.write_bytes(content)


@case("the catalogue has a write-ahead log by its header")
def _write_ahead_catalogue(index, victim):
    database = generation(index) / "catalogue.sqlite"
    content = bytearray(database.read_bytes())
    content[18] = content[19] = 2
    database.write_bytes(content)
    sign(generation(index))


@case("the live generation is a link to a folder outside")
def _linked_generation(index, victim):
    live, outside = generation(index), victim.parent / "generation"
    live.rename(outside)
    live.symlink_to(outside)


@case("an old generation is a link to a folder outside")
def _linked_old_generation(index, victim):
    (victim.parent / "folder").mkdir()
    (victim.parent / "folder" / "file").write_text("x")
    (index / "generation-000009").symlink_to(victim.parent / "folder")
    (index / "generation-000008").symlink_to(victim)


@case("leftovers are links to the outside")
def _linked_leftovers(index, victim):
    (index / ".tmp-abcdefgh").symlink_to(victim.parent)
    (index / ".tmp-abcdefg1").symlink_to(victim)
    (index / ".tmp-abcdefg2").mkdir()
    (index / ".tmp-abcdefg2" / "inner").symlink_to(victim.parent)
    (generation(index) / ".tmp-abcdefg3").symlink_to(victim.parent)


@case("links have the names that a writer would take by its number")
def _predicted_names(index, victim):
    """The number of this process stands for all 32,768."""
    for folder, names in ((generation(index), (MANIFEST, ".proved.json")), (index, ("CURRENT", ".epoch"))):
        for name in names:
            (folder / f".tmp-{os.getpid()}-{name}").symlink_to(victim)
            (folder / name).is_file() and name.startswith(".") and (folder / name).unlink()


@case("a forged proof for a forest with wild pointers", is_run_outside=True)
def _forged_proof(index, victim):
    """As whoever may write in a shared folder can: what a proof says of the files can be read off them."""
    folder = generation(index)
    raw = json.loads((folder / MANIFEST).read_text())
    forest = folder / "forest.ann"
    content = bytearray(forest.read_bytes())
    node = len(content) // (content_nodes := len(content) // (12 + 4 * raw["latent_dim"]))
    for at in range(raw["items"], content_nodes):
        content[at * node + 4 : at * node + 12] = b"\x00\x00\x00\x70" * 2
    forest.write_bytes(content)
    identities = {}
    for name in raw["files"]:
        found = (folder / name).stat()
        proved = [raw["files"][name]["sha256"], raw["items"], raw["latent_dim"], raw["metric"]]
        identities[name] = [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, *proved]
    (folder / ".proved.json").write_text(json.dumps(identities))
