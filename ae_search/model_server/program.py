"""What a SavedModel may do: it is a program, looked through before TensorFlow loads it.

All nodes and functions are looked at, whatever reaches them: signatures, initialisers, functions of restored objects.
Loading and serving run none but these. The functions of the saver may also save and restore, if nothing else calls
them.
"""

import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from ae_search.errors import ExportError
from ae_search.model_server.operations import ALLOWED, RESTORING, SAVING
from ae_search.version_folders import SAVED_MODEL

# Weights lie in variables/; MobileNetV3's graph has 1 MiB. A parsed one takes up to forty times as much memory.
MAX_GRAPH_BYTES = 32 * 2**20
MAX_NODES = 500_000
# TensorFlow takes the graph from one of these where there is no SAVED_MODEL, or reads them first.
OTHER_GRAPHS = ("saved_model.pbtxt", "saved_model.cpb")
CALLS = ("PartitionedCall", "StatefulPartitionedCall")
# Values that stand for something in memory, which a constant could forge.
_POINTERS = (types_pb2.DT_RESOURCE, types_pb2.DT_VARIANT)
ADVICE = "If you know who made it, load it with --trust, or LocalEncoder(path, trust=True)."


def check_program(folder: Path) -> None:
    """Refuse a version that could do more than compute.

    Args:
        folder: The version folder.

    Raises:
        ExportError: It has an operation that is not on the list, a link that leads out of the folder, no graph that can
            be read, or one that is too large.
    """
    _check_files(folder)
    for meta_graph in _read(folder).meta_graphs:
        if found := _Program(meta_graph).refused():
            raise ExportError(
                f"{folder} contains {found}. A model is a program, and this one could read or write files, or worse. "
                f"{ADVICE}"
            )


def _check_files(folder: Path) -> None:
    root = folder.resolve()
    for parent, folders, names in os.walk(root):
        for path in (Path(parent, name) for name in (*folders, *names)):
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                inside = path.is_file() and path.resolve().is_relative_to(root)
            else:
                inside = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
            if not inside:
                raise ExportError(
                    f"{folder} must hold files and folders of its own; {str(path.relative_to(root))!r:.200} is a link "
                    f"that leads out of it, or no regular file. Copy what is meant (cp -rL). {ADVICE}"
                )
    for name in OTHER_GRAPHS:
        if (root / name).exists():
            raise ExportError(f"{folder} has a {name}; expected its graph in {SAVED_MODEL} alone. {ADVICE}")


def _read(folder: Path) -> Any:
    path = folder / SAVED_MODEL
    try:
        size = path.stat().st_size
        if size > MAX_GRAPH_BYTES:
            raise ExportError(
                f"{path} has {size / 2**20:.0f} MiB; expected at most {MAX_GRAPH_BYTES // 2**20}: a graph, with its "
                f"weights in variables/. {ADVICE}"
            )
        return saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise ExportError(f"{folder} cannot be loaded as a SavedModel: {SAVED_MODEL}: {str(error):.200}.") from error


class _Program:
    """The nodes of one graph and of its functions, and who calls these."""

    def __init__(self, meta_graph: Any) -> None:
        self._meta_graph = meta_graph
        self._library = meta_graph.graph_def.library
        self._functions = {function.signature.name for function in self._library.function}
        # By function: the functions that call it, and the nodes of the graph itself that do.
        self._callers: dict[str, list[str]] = defaultdict(list)
        self._calling_nodes: dict[str, list[str]] = defaultdict(list)

    def refused(self) -> str | None:
        """Return what is not allowed and where it stands, None if there is nothing of that kind."""
        counts = [len(self._meta_graph.graph_def.node), *(len(one.node_def) for one in self._library.function)]
        if sum(counts) + len(counts) > MAX_NODES:
            return f"a graph of {sum(counts)} nodes, which is more than {MAX_NODES}"
        for function, node in self._nodes():
            for name in (*_functions_named(node.attr), *({node.op} & self._functions)):
                if name not in self._functions:
                    return f"a call of the function {name!r:.80}, which it does not have"
                (self._callers[name] if function else self._calling_nodes[name]).append(function or node.name)
        saver = self._saver_functions()
        for function, node in self._nodes():
            if not self._is_allowed(node, saver.get(function, frozenset())):
                return f"the operation {node.op!r:.80} ({self._place(function, node.name)})"
        return None

    def _nodes(self) -> Iterator[tuple[str, Any]]:
        """Yield all nodes with the function that they stand in, "" for the graph itself."""
        yield from (("", node) for node in self._meta_graph.graph_def.node)
        for function in self._library.function:
            yield from ((function.signature.name, node) for node in function.node_def)

    def _is_allowed(self, node: Any, of_saver: frozenset[str]) -> bool:
        if node.op == "Const":
            return node.attr["value"].tensor.dtype not in _POINTERS
        if node.op in ALLOWED or node.op in of_saver:
            return True
        # A function may be called by its name, but none stands in for an operation of TensorFlow's.
        return node.op in self._functions and op_def_registry.get(node.op) is None

    def _saver_functions(self) -> dict[str, frozenset[str]]:
        """Return the functions that nothing but the saver's own two nodes calls, and what each of them may do."""
        saver = self._meta_graph.saver_def
        nodes = {node.name: node for node in self._meta_graph.graph_def.node}
        found = {}
        for name, operations in ((saver.save_tensor_name, SAVING), (saver.restore_op_name, RESTORING)):
            node = nodes.get(_node_of(name))
            if node is None or node.op not in CALLS or self._is_mentioned(node.name):
                continue
            function = node.attr["f"].func.name
            if operations is RESTORING and not self._restores_own_files(function, node, nodes):
                continue
            if self._calling_nodes[function] == [node.name] and not self._callers[function]:
                if function.encode() not in self._meta_graph.object_graph_def.SerializeToString():
                    found[function] = operations
        return found

    def _is_mentioned(self, node: str) -> bool:
        """Return whether a node, a signature or an initialiser needs a node of the saver."""
        if any(_node_of(one) == node for each in self._meta_graph.graph_def.node for one in each.input):
            return True
        others = [*self._meta_graph.signature_def.values(), *self._meta_graph.collection_def.values()]
        return any(node.encode() in one.SerializeToString() for one in others)

    def _restores_own_files(self, function: str, node: Any, nodes: Mapping[str, Any]) -> bool:
        """Return whether what a function restores is the checkpoint that the loader names, and no other file."""
        prefix = nodes.get(_node_of(self._meta_graph.saver_def.filename_tensor_name))
        if prefix is None or prefix.op != "Placeholder" or not node.input or _node_of(node.input[0]) != prefix.name:
            return False
        for one in self._library.function:
            if one.signature.name == function:
                first = one.signature.input_arg[0].name if one.signature.input_arg else ""
                if any(each.op in RESTORING and each.input[:1] != [first] for each in one.node_def):
                    return False
        return True

    def _place(self, function: str, node: str) -> str:
        """Return the signature that reaches a node, or the function or the node itself."""
        reached, nodes = {function} - {""}, set() if function else {node}
        waiting = list(reached)
        while waiting:
            name = waiting.pop()
            nodes.update(self._calling_nodes[name])
            fresh = set(self._callers[name]) - reached
            reached |= fresh
            waiting += fresh
        for name, signature in sorted(self._meta_graph.signature_def.items()):
            if any(_node_of(output.name) in nodes for output in signature.outputs.values()):
                return f"in signature {name!r:.80}"
        return f"in function {function!r:.80}" if function else f"node {node!r:.80}"


def _functions_named(attributes: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the functions in attributes, at any depth."""
    for value in attributes.values():
        for function in (*([value.func] if value.HasField("func") else []), *value.list.func):
            yield function.name
            yield from _functions_named(function.attr)


def _node_of(name: str) -> str:
    """Return the node of a tensor or a control input."""
    return name.removeprefix("^").partition(":")[0]
