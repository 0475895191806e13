"""Steps of ranks that share every batch, on the double of CuPy or on GPUs, and what they should come to.

Takes ``double`` or ``gpu`` and a JSON list of cases; prints one of what was found in each. Rank 0 computes what is
expected, in one process.
"""

import json
import sys
from contextlib import nullcontext

import numpy as np

from incnet import backend
from incnet.backend import asarray, asnumpy
from incnet.data.shard import Shard
from incnet.optim import RMSProp
from incnet.parallel.launch import connect
from incnet.parallel.step import ParallelStep
from incnet.parallel.transport import device_of_rank
from incnet.threads import use_threads
from incnet.training.replay import Replay
from incnet.training.step import Step
from tests.cuda import strict_cupy
from tests.cuda.programs.faults import FAULTS
from tests.cuda.strict_cupy import device
from tests.parallel.programs.same_steps import SeparateParts, batches, grow

STEPS = 20
BUCKET_BYTES = 2048  # several, of networks as small as these


def steps(case, communicator):
    """Losses and weights of the ranks' steps, and what the last of them sent and copied, as far as the double knows."""
    graph = grow(*case["network"])
    communicator.broadcast(graph.state())
    step, losses = Replay(ParallelStep(graph, RMSProp(1e-3), communicator, sync_bn=case["sync_bn"])), []
    step.step.gradient_sum.bucket_bytes = BUCKET_BYTES
    for images, labels in batches(case["steps"]):
        part = Shard(communicator.rank, communicator.size).of(len(images))
        images, labels = asarray(images[part]), asarray(labels[part])
        device.reset()
        totals = step.gradients(images, labels)
        step.update()
        backend.synchronize()
        counts = {name: device.counts[name] for name in ("bytes_summed", "bytes_staged", "to_host", "to_device")}
        losses.append(asnumpy(totals))
    weights = {name: asnumpy(array) for name, array in graph.state().items()}
    communicator.check_equal(graph.state(), "weights")
    return np.array(losses), weights, {**counts, "claimed": step.bytes}


def expected(case, ranks):
    """Losses and weights of one process."""
    graph, optimizer = grow(*case["network"]), RMSProp(1e-3)
    step = Replay(Step(graph, optimizer)) if case["sync_bn"] else SeparateParts(graph, optimizer, ranks)
    losses = []
    for images, labels in batches(case["steps"]):
        losses.append(asnumpy(step.gradients(asarray(images), asarray(labels))))
        step.update()
    return np.array(losses), {name: asnumpy(array) for name, array in graph.state().items()}


def difference(found, wanted):
    """The largest one, of losses and weights; infinite where there is something that is no number."""
    names = [name for name, array in wanted[1].items() if array.dtype == np.float64]
    pairs = [(found[0], wanted[0]), *((found[1][name], wanted[1][name]) for name in names)]
    return float(max(np.nan_to_num(np.abs(ours - theirs).max(), nan=np.inf) for ours, theirs in pairs))


def examine(case, communicator, known):
    """What was found in a case; ``known`` keeps what was expected in earlier ones."""
    device.early, device.patience = case["early"], 100 * communicator.rank  # rank 0 sees copies done at once
    backend.use(device_of_rank("gpu", communicator))
    communicator.reach_devices(case["sums"])
    with FAULTS[case["fault"]]() if case["fault"] else nullcontext():
        try:
            *found, result = steps(case, communicator)
        except Exception as error:
            return {"error": repr(error)}
    result["differences"] = {}
    for name in ("reference", "cuda") if case["on_device_too"] else ("reference",):
        backend.use(name)
        key = json.dumps([case["network"], case["sync_bn"], case["steps"], name])
        if communicator.first and key not in known:
            known[key] = expected(case, communicator.size)
        if communicator.first:
            result["differences"][name] = difference(found, known[key])
    return result


def main():
    use_threads(1)
    defaults = {"sync_bn": True, "early": False, "fault": None, "steps": STEPS, "on_device_too": False}
    known = {}
    on, cases = sys.argv[1], json.loads(sys.argv[2])
    with connect() as communicator:
        with strict_cupy.installed(devices=communicator.size) if on == "double" else nullcontext():
            found = [examine({**defaults, **case}, communicator, known) for case in cases]
        backend.use("cpu")
    if communicator.first:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
