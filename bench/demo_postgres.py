"""The demo with its index in a PostgreSQL of its own: run it with `make demo-postgres`."""

import subprocess
import sys
from contextlib import closing

from postgres_server import PostgresServer


def main() -> int:
    """Start a server, run the demo on it, and stop the server."""
    with closing(PostgresServer(shared_buffers="256MB")) as server:
        place = f"{server.database('demo')}&index=demo"
        command = [sys.executable, "-m", "ae_search", "demo", "--index", place, *sys.argv[1:]]
        code = subprocess.run(command, check=False).returncode
    print("This PostgreSQL has been stopped and deleted, and the index with it; the other files of the demo are kept.")
    return code


if __name__ == "__main__":
    sys.exit(main())
