"""Another process that has an index open: `python contract_child.py PLACE`.

For each line of JSON on stdin, `[method, arguments, options]`, prints what the method returned, or the error's class.
"""

import json
import sys

from ae_search.open_index import open_index

with open_index(sys.argv[1]) as index:
    print("ready", flush=True)
    for line in sys.stdin:
        method, arguments, options = json.loads(line)
        try:
            answer = getattr(index, method)(*arguments, **options)
        except Exception as error:
            answer = {"error": type(error).__name__}
        print(json.dumps(answer, default=str), flush=True)
