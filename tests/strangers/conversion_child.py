"""Turns files into PNG in a process of its own, and prints what came of each, how much memory rose and what is wrong.

Arguments: a folder of files; or the number of ways to mangle each small file of the odd kinds.
"""

import json
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from image_child import rise_mib
from image_mutations import mangled, wild_bytes
from odd_images import kinds

from ae_search.errors import ImageError
from ae_search.image_file import for_graph, graph_decodes


def outcome(data, name):
    """Return why a file is refused, None where it is taken."""
    try:
        made = for_graph(data, name)
    except ImageError as error:
        return str(error)
    assert graph_decodes(made)
    return None


def of_folder(folder):
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    for data, _, _ in kinds().values():  # so that all decoders are loaded
        outcome(data, "ordinary")
    return rise_mib(lambda: {name: outcome(data, name) for name, data in files.items()})


def of_mutations(count):
    outcomes, faults = Counter(), []
    some = {name: data for name, (data, _, _) in kinds().items() if "under tag" not in name}
    for seed, (name, data) in enumerate(some.items()):
        for file in (*wild_bytes(data, 48), *mangled(data, count, seed)):
            found = outcome(file, name)
            outcomes["taken" if found is None else "refused"] += 1
            if found is not None and ("\n" in found or not found.startswith(f"{name}: ")):
                faults.append([name, file.hex(), found])
    return outcomes, faults


if __name__ == "__main__":
    what = sys.argv[1]
    if what.isdigit():
        outcomes, faults = of_mutations(int(what))
        print(json.dumps({"outcomes": outcomes, "faults": faults}))
    else:
        found, rise = of_folder(Path(what))
        print(json.dumps({"found": found, "rise_mib": rise}))
