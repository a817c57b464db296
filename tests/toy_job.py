"""A job for the tests of the cluster: it trains no network, but counts epochs as run_job does."""

import hashlib
import time
from datetime import datetime, timezone

from fer_edge.artifacts.epoch_log import EpochRecord
from fer_edge.train.cluster_worker import obey


def next_state(state, seed):
    """The state after one more epoch: it depends on every epoch before."""
    return hashlib.sha256(state + bytes([seed])).hexdigest().encode()


def toy_job(job, packed, split, models, checkpoint, call, node=""):
    """Continue from the checkpoint, ``epoch:state``, and return the last state as the model of the run."""
    obey(call("begin", job.run, job.attempt), job, "before its first epoch here")
    first, _, state = (checkpoint or b"0:").partition(b":")
    for epoch in range(int(first) + 1, job.plan.epochs + 1):
        time.sleep(float(job.environment.get("TF_TOY_SECONDS", 0)))
        state = next_state(state, job.plan.seed)
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        record = EpochRecord(job.run, job.attempt, epoch, job.plan.epochs, {"loss": 1 / epoch}, "host", node, 1, now)
        obey(call("save", record, b"%d:%s" % (epoch, state)), job, f"after epoch {epoch} of {job.plan.epochs}")
    if "fails" in job.plan.weights:
        raise ValueError("the weights do not fit")
    faces = len(packed.images) + sum(len(files) for files in models.values())
    return {"model.keras": state, "faces": str(faces).encode()}


def expected_state(seed, epochs):
    """The last state of a run that was never stopped."""
    state = b""
    for _ in range(epochs):
        state = next_state(state, seed)
    return state
