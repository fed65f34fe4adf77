"""A writer to be killed: `python milvus_crash_writer.py PLACE SEED` adds, updates and removes pairs of items."""

import itertools
import sys

from index_items import clustered

from ae_search.open_index import open_index

place, seed = sys.argv[1], int(sys.argv[2])
rows = clustered(400, seed=seed)
with open_index(place) as index:
    for round_ in itertools.count():
        names = [f"{seed}-{round_}-{half}" for half in ("one", "two")]
        at = 2 * (round_ % 190)
        index.add(rows[at : at + 2], names, [f"{round_}"] * 2, wait_s=200.0)
        print(f"added {round_}", flush=True)
        index.update(names, labels=["updated"] * 2, latents=rows[at + 2 : at + 4])
        print(f"updated {round_}", flush=True)
        if round_ % 3 == 2:
            index.remove(names)
            print(f"removed {round_}", flush=True)
