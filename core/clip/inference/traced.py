"""The image tower as one call.

PyTorch computes in steps, hundreds of them a batch, and Python's lock is needed again before each. In a
service other threads hold it, reading requests and writing answers, and every step waits for its turn.
Here the steps are recorded once for a backbone, with the weights as an argument, so that all networks on
it share one recording; a batch then gives the lock away once. The steps are the same ones: so are the
features, bit by bit.

TorchScript is what PyTorch has for this: `torch.compile` needs a C++ compiler on the user's machine, and
`torch.export` makes a program that Python takes through its steps again.
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
"""What is recorded: a network and a batch, to features."""
logger = logging.getLogger(__name__)
_recording = threading.Lock()  # PyTorch's tracer is one for the process


@dataclass(frozen=True)
class Program:
    """What one architecture does with a batch."""

    function: Callable[[Tensor, Any], Tensor]

    def of(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """Of a network like the one that was recorded. It must stay as it is."""
        # A list of TorchScript's own. A plain one would be the only other holder of the tensors, and who
        # is about to be the last holder of a tensor that Python knows needs Python's lock.
        weights = torch.jit.script(_tensors(network))

        def run(batch: Tensor) -> Tensor:
            # Not optimised: that would change the steps, and anew for each size of batch.
            with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
                return self.function(batch, weights)

        return run


def record(step: Step, network: nn.Module, batch: Tensor) -> Program | None:
    """The program of a step, checked on a batch of another size.

    Args:
        network: in eval mode. It is not touched: a copy of its modules is recorded, which shares the tensors.
        batch: [2, ...] like those that will come.

    Returns:
        None, with a warning in the log, if it can't be recorded or computes something else.
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
                warnings.simplefilter("ignore")  # of the tracer, about what it can't see: that is checked
                # The two halves of torch.jit.trace, whose functions stay in memory as long as the process.
                graph, _ = torch._C._create_graph_by_tracing(
                    compute,
                    (batch[:1], _tensors(network)),
                    lambda tensor: "",  # names of variables, for reading the graph
                    True,
                    False,
                    argument_names=["batch", "weights"],
                )
            function = torch._C._create_function_from_graph("compute", graph)
            program = Program(cast(Callable[[Tensor, Any], Tensor], function))
            same = torch.equal(program.of(network)(batch), step(network, batch))
        except Exception as error:  # whatever TorchScript can't do, or this build of PyTorch
            logger.warning("The network is not served as one call: %s", error)
            return None
    if not same:
        logger.warning("The network is not served as one call, since it would answer something else.")
        return None
    return program


def _places(network: nn.Module) -> Iterator[tuple[dict[str, Tensor], str]]:
    """Where each parameter and buffer hangs, whether or not it is the same as another."""
    for module in network.modules():
        for owner in (module._parameters, module._buffers):
            yield from ((cast(dict[str, Tensor], owner), name) for name in owner if owner[name] is not None)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [owner[name].detach() for owner, name in _places(network)]
