"""The nodes of a traced function: how many there are of each kind, and which of them a GPU would not run on its own.

A node runs on a GPU where the TensorFlow wheel has registered a kernel for the GPU (or for any device) that takes the
node's types; the wheel registers them on machines without a GPU as well. Such a kernel may still want an argument in
the memory of the host, such as the shape that `tf.fill` makes. `crossings` follows every tensor through the function
and tells which are made in the memory of the GPU and wanted in that of the host: for each of them the step waits.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from amzrec.model.keras2 import import_tensorflow

tf: Any = import_tensorflow()

# after TensorFlow is imported as it must be
from tensorflow.core.framework import types_pb2  # noqa: E402
from tensorflow.python.framework import kernels, op_def_registry  # noqa: E402

HOST, DEVICE = "host", "device"
HANDLES = (types_pb2.DT_RESOURCE, types_pb2.DT_VARIANT, types_pb2.DT_STRING)  # never copied, or on no GPU at all
FUNCTIONS = {  # the attributes of the functions that a node calls, and its inputs that are not theirs
    "PartitionedCall": (("f",), 0),
    "StatefulPartitionedCall": (("f",), 0),
    "While": (("cond", "body"), 0),
    "StatelessWhile": (("cond", "body"), 0),
    "If": (("then_branch", "else_branch"), 1),
    "StatelessIf": (("then_branch", "else_branch"), 1),
}


@dataclasses.dataclass(frozen=True)
class Known:
    """What is known of a tensor in a traced function."""

    kind: int  # DT_FLOAT, …
    memory: str  # HOST or DEVICE
    scalar: bool  # one number, such as a size
    maker: str  # the operation that made it


def all_nodes(function: Any) -> Iterator[Any]:
    """Every node of a concrete function and of the functions that it calls, as often as they are called."""
    graph = function.graph.as_graph_def()
    library = {each.signature.name: each for each in graph.library.function}

    def nodes(level: Iterable[Any]) -> Iterator[Any]:
        for node in level:
            yield node
            for attribute in FUNCTIONS.get(node.op, ((), 0))[0]:
                yield from nodes(library[node.attr[attribute].func.name].node_def)

    return nodes(graph.node)


def gpu_kernel(node: Any) -> Any:
    """The kernel that runs a node on a GPU; None where there is none for its types."""
    found: dict[str, Any] = {}
    for kernel in kernels.get_registered_kernels_for_op(node.op).kernel:
        fits = all(
            kind in constraint.allowed_values.list.type
            for constraint in kernel.constraint
            for kind in list(node.attr[constraint.name].list.type) or [node.attr[constraint.name].type]
        )
        if fits:
            found.setdefault(kernel.device_type, kernel)
    return found.get("GPU") or found.get("DEFAULT")  # "DEFAULT" is any device that has no kernel of its own


def without_kernel(function: Any) -> Counter[str]:
    """How many nodes of each kind and types have no GPU kernel: the step would go to the host and back for them."""
    return Counter(described(node) for node in all_nodes(function) if gpu_kernel(node) is None)


def described(node: Any) -> str:
    """A node's operation and types, such as `Cumsum(T=int64, Tidx=int32)`."""
    types = {name: types_pb2.DataType.Name(value.type)[3:].lower() for name, value in node.attr.items() if value.type}
    return f"{node.op}({', '.join(f'{name}={kind}' for name, kind in sorted(types.items()))})"


def arguments(definitions: Any, node: Any) -> list[tuple[str, int]]:
    """(name, type) of every tensor of a node's inputs or outputs, as its definition lists them."""
    found = []
    for each in definitions:
        kinds = list(node.attr[each.type_list_attr].list.type) if each.type_list_attr else []
        if not kinds:
            kind = node.attr[each.type_attr].type if each.type_attr else each.type
            kinds = [kind] * (node.attr[each.number_attr].i if each.number_attr else 1)
        found += [(each.name, kind) for kind in kinds]
    return found


class Flow:
    """Follows the memory of tensors through a graph and the functions that it calls."""

    def __init__(self, function: Any) -> None:
        self.graph = function.graph.as_graph_def(add_shapes=True)
        self.library = {each.signature.name: each for each in self.graph.library.function}
        given = len(function.inputs) - len(function.captured_inputs)
        self.given = {each.op.name for each in function.inputs[:given]}  # the input, which the host makes
        self.found: dict[tuple[str, str, int], tuple[Known, str]] = {}  # where made → the tensor and who wants it
        self.follow(self.graph.node, {}, "")

    def follow(self, nodes: Iterable[Any], known: dict[str, Known], path: str) -> dict[str, Known]:
        """Add the outputs of nodes to the tensors that are known, by name; `path` names the function they are in."""
        waiting = list(nodes)
        while waiting:  # nodes of functions stand in any order
            later = []
            for node in waiting:
                names = [name for name in node.input if not name.startswith("^")]
                if all(name in known for name in names):
                    self.run(node, [known[name] for name in names], names, known, path)
                else:
                    later.append(node)
            if len(later) == len(waiting):
                raise ValueError(f"inputs that no node makes: {later[0].name} in {path or 'the graph'}")
            waiting = later
        return known

    def run(self, node: Any, inputs: list[Known], names: list[str], known: dict[str, Known], path: str) -> None:
        """Note which inputs a node wants on the host, and what it makes where."""
        definition, kernel = op_def_registry.get(node.op), gpu_kernel(node)
        on_host = set(kernel.host_memory_arg) if kernel else None  # None: all of them
        for tensor, name, (argument, _) in zip(inputs, names, arguments(definition.input_arg, node), strict=True):
            if tensor.memory == DEVICE and (on_host is None or argument in on_host):
                self.found.setdefault((path, name, 0), (tensor, node.op))
        shapes = node.attr["_output_shapes"].list.shape
        functions, skipped = FUNCTIONS.get(node.op, ((), 0))
        for number, attribute in enumerate(functions):
            self.enter(self.library[node.attr[attribute].func.name], inputs[skipped:], f"{path}/{node.name}.{number}")
        count: Counter[str] = Counter()
        for flat, (name, kind) in enumerate(arguments(definition.output_arg, node)):
            there = (
                kind in HANDLES or (on_host is None or name in on_host) or (functions and kind == types_pb2.DT_INT32)
            )
            if node.op == "Placeholder":  # an argument; int32 ones stay with the host
                there = there or kind == types_pb2.DT_INT32 or node.name in self.given
            scalar = flat < len(shapes) and not shapes[flat].unknown_rank and not len(shapes[flat].dim)
            tensor = Known(kind, HOST if there else DEVICE, scalar, described(node))
            for key in (f"{node.name}:{name}:{count[name]}", f"{node.name}:{flat}", node.name if not flat else ""):
                known[key] = tensor
            count[name] += 1

    def enter(self, function: Any, inputs: list[Known], path: str) -> None:
        """Follow a function with these arguments; int32 ones reach it, and leave it, in the memory of the host."""
        known = {}
        for argument, tensor in zip(function.signature.input_arg, inputs, strict=True):
            if tensor.kind == types_pb2.DT_INT32 and tensor.memory == DEVICE:
                self.found.setdefault((path, argument.name, 0), (tensor, "argument of a function"))
                tensor = dataclasses.replace(tensor, memory=HOST)
            known[argument.name] = tensor
        self.follow(function.node_def, known, path)


def crossings(function: Any) -> tuple[Counter[str], Counter[str]]:
    """Tensors made on the GPU and wanted on the host, as "maker → who wants it": arrays, and single numbers.

    Single numbers are sizes that the data decide, such as the number of different products in a batch; a step cannot
    do without some of them. Arrays are data that go back and forth.
    """
    arrays: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    for tensor, wanted in Flow(function).found.values():
        (numbers if tensor.scalar else arrays)[f"{tensor.maker} → {wanted}"] += 1
    return arrays, numbers
