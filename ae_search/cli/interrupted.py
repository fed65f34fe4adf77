"""What the same command does next, after Ctrl-C."""

_BEGINS_ANEW = "the same command begins anew"
_AS_BEFORE = f"the index is as it was before; {_BEGINS_ANEW}"

# By the words of a command; of others there is nothing to say.
NEXT = {
    "train": "the same command goes on after the last whole epoch",
    "export": f"no version was written; {_BEGINS_ANEW}",
    "embed": "the files that were finished stay; the same command goes on with the others",
    "evaluate": f"no report was written; {_BEGINS_ANEW}",
    "demo": "what was finished stays; the same command goes on with the rest",
    "index build": _AS_BEFORE,
    "index rebuild": _AS_BEFORE,
    "index compact": _AS_BEFORE,
    "index import": _AS_BEFORE,
    "index tune": _AS_BEFORE,
    "index add": "what was added stays in the index; the same command goes on with the rest",
    "index update": "some images may be updated by now; the same command updates all of them",
    "index sync": "what was done stays; the same command does the rest",
    "index remove": "all of the items were removed, or none; `ae-search index info` counts them",
    "index export": f"no file was written; {_BEGINS_ANEW}",
}
