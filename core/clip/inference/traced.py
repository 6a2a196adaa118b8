"""The image tower as one TorchScript call, which releases the GIL once per batch.

Eager PyTorch runs hundreds of operations per batch and needs the GIL before each. In a service other
threads hold the GIL while they read requests and write responses, so every operation waits. Here the
operations are traced once per backbone, with the weights as an argument, and all models on the backbone
share the trace. The operations are the same, so the features are bit-identical.

Alternatives do not fit: `torch.compile` needs a C++ compiler on the user's machine, and `torch.export`
makes a program that Python interprets operation by operation.

This is TorchScript, whose public functions in `torch.jit` are deprecated and warn. Its internals are used
here. In a torch without them, serving is slower, with a warning in the log.
"""

import copy
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

Step = Callable[[nn.Module, Tensor], Tensor]
"""The traced function: network and batch to features."""
logger = logging.getLogger(__name__)
_recording = threading.Lock()  # PyTorch has one tracer per process


@dataclass(frozen=True)
class Program:
    """The traced computation of one architecture."""

    function: Callable[[Tensor, Any], Tensor]

    def of(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """Bind the program to a network of the same architecture, which must not change afterwards."""
        # A TorchScript list. With a Python list the call would hold the last reference to each tensor, and
        # dropping the last reference to a tensor with a Python wrapper takes the GIL.
        weights = torch._C.ScriptList(_tensors(network))

        def run(batch: Tensor) -> Tensor:
            # Optimisation would change the operations, and run again for each batch size. The flag is that of
            # this thread.
            optimises = torch._C._get_graph_executor_optimize()
            torch._C._set_graph_executor_optimize(False)
            try:
                return self.function(batch, weights)
            finally:
                torch._C._set_graph_executor_optimize(optimises)

        return run


def record(step: Step, network: nn.Module, batch: Tensor) -> Program | None:
    """Trace a step and verify the program on a batch of another size.

    Args:
        network: in eval mode, not modified. A copy of its modules is traced, which shares the tensors.
        batch: [2, ...], an example.

    Returns:
        None, with a warning in the log, if tracing fails or the results differ.
    """
    shared = {id(owner[name]): owner[name] for owner, name in _places(network)}
    recorded = copy.deepcopy(network, shared)
    places = list(_places(recorded))

    def compute(batch: Tensor, weights: list[Tensor]) -> Tensor:
        for (owner, name), tensor in zip(places, weights, strict=True):
            owner[name] = tensor
        return step(recorded, batch)

    with torch.no_grad():
        try:
            with _recording, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the tracer's warnings are covered by the check below
                # The two halves of a public trace, whose functions would stay in memory for good.
                graph, _ = torch._C._create_graph_by_tracing(
                    compute,
                    (batch[:1], _tensors(network)),
                    lambda tensor: "",  # variable names, only for readable graphs
                    True,
                    False,
                    argument_names=["batch", "weights"],
                )
            function = torch._C._create_function_from_graph("compute", graph)
            program = Program(cast(Callable[[Tensor, Any], Tensor], function))
            same = torch.equal(program.of(network)(batch), step(network, batch))
        except Exception as error:  # TorchScript or this build of PyTorch may fail in any way
            logger.warning("The image tower is not traced, which makes serving slower: %s", error)
            return None
    if not same:
        logger.warning("The image tower is not traced, since the features would differ.")
        return None
    return program


def _places(network: nn.Module) -> Iterator[tuple[dict[str, Tensor], str]]:
    """Yield owner and name of each parameter and buffer, shared ones repeatedly."""
    for module in network.modules():
        for owner in (module._parameters, module._buffers):
            yield from ((cast(dict[str, Tensor], owner), name) for name in owner if owner[name] is not None)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [owner[name].detach() for owner, name in _places(network)]
