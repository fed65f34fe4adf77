"""Runs mutations of image files through an export's encode_bytes and prints what was neither taken nor refused.

Arguments: the export's version folder, how many bytes from the start of each file go wild, how many files are mangled.
"""

import json
import sys
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
from image_mutations import kinds, mangled, wild_bytes

from ae_search.model_server.refusal import RequestRefused
from ae_search.model_server.servable import Servable

if __name__ == "__main__":
    folder, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    servable = Servable.load(folder, 1)
    outcomes, faults = Counter(), []
    for seed, (kind, data) in enumerate(kinds().items()):
        for file in (data, *wild_bytes(data, first), *mangled(data, count, seed)):
            try:
                servable.run("encode_bytes", {"image_bytes": np.array([file], object)})
                outcomes["taken"] += 1
            except RequestRefused as refused:
                outcomes[refused.code.name] += 1
                if refused.code is not grpc.StatusCode.INVALID_ARGUMENT or "\n" in refused.text:
                    faults.append([kind, file.hex(), refused.code.name, refused.text])
    print(json.dumps({"outcomes": outcomes, "faults": faults}))
