"""Load thousands of damaged and hostile model files, each in a forked process, and report the outcomes: ``make fuzz``.

Each kind of change is tried with three kinds of contracts: with the digest of the original flatbuffer, as after an accident;
without a digest, as in older files; and with the digest of the changed flatbuffer, as an attacker would write it.
"""

import argparse
import functools
import hashlib
import io
import itertools
import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mutants import KINDS, Original, make_archive, mutant

from fer_edge.artifacts.contract import CONTRACT_FILE, LABELS_FILE, ModelError
from fer_edge.artifacts.model_archive import read_archive
from fer_edge.edge_runtime import Classifier
from fer_edge.edge_runtime.find_model import default_model

KEPT, ABSENT, FORGED = DIGESTS = ("kept", "absent", "forged")
MAX_SECONDS = 20
MAX_MEMORY_MB = 1000
MAX_ADDRESSES = 6 << 30
PROGRESS_EVERY = 500
DIGEST = "flatbuffer_sha256"
FACES = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3), np.uint8)


@dataclass(frozen=True)
class Case:
    """One mutant and its outcome: rejected, same, changed, or a fault."""

    kind: str
    number: int
    digest: str
    result: str

    @property
    def fault(self):
        """Whether this must not happen. With the original digest, no change may go unnoticed."""
        return self.result not in ("rejected", "same") and (self.result, self.digest) not in (
            ("changed", ABSENT),
            ("changed", FORGED),
        )


@functools.cache
def original_with(path, digest):
    original = Original.read(Path(path))
    known = None if digest == ABSENT else hashlib.sha256(original.flatbuffer).hexdigest()
    return original.with_contract({**original.contract, DIGEST: known})


def forge(content):
    """Write the digest of the flatbuffer into the contract, if the file has a readable one."""
    try:
        start, (text, labels) = read_archive(io.BytesIO(content), (CONTRACT_FILE, LABELS_FILE))
        contract = json.loads(text)
        contract[DIGEST] = hashlib.sha256(content[:start]).hexdigest()
    except (ValueError, TypeError, RecursionError):
        return content
    return content[:start] + make_archive([(LABELS_FILE, labels), (CONTRACT_FILE, json.dumps(contract))])


def predictions(path):
    return [list(prediction.probabilities) for prediction in Classifier(path).predict(list(FACES))]


def use(path, expected):
    """The outcome of a program that uses a model file."""
    try:
        return "same" if json.loads(json.dumps(predictions(path), allow_nan=False)) == expected else "changed"
    except ModelError:
        return "rejected"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:100]}"


def use_in_child(path, expected):
    """The same in a forked process, with limits. Also reports signals, hangs and high memory."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.close(read_end)
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESSES, MAX_ADDRESSES))
        os.write(write_end, use(path, expected).encode())
        os._exit(0)
    os.close(write_end)
    readable = select.select([read_end], [], [], MAX_SECONDS)[0]
    if not readable:
        with suppress(ProcessLookupError):  # the child has not become a group yet
            os.killpg(child, signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
    result = os.read(read_end, 4096).decode() if readable else f"hangs for {MAX_SECONDS} s"
    os.close(read_end)
    _, status, usage = os.wait4(child, 0)
    if os.WIFSIGNALED(status) and readable:
        result = f"ends the process ({signal.Signals(os.WTERMSIG(status)).name})"
    memory_mb = usage.ru_maxrss // 1024
    return result if memory_mb <= MAX_MEMORY_MB else f"takes {memory_mb} MB"


def run_case(path, expected, seed, plan):
    kind, number, digest = plan
    content = mutant(original_with(path, digest), kind, seed, number)
    with tempfile.NamedTemporaryFile(suffix=".tflite", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as file:
        file.write(forge(content) if digest == FORGED else content)
        file.flush()
        return Case(kind, number, digest, use_in_child(Path(file.name), expected))


def plans(count, digests=DIGESTS):
    """(kind, number, digest) of the first mutants, all kinds and digests in turn."""
    turns = ((kind, number, digests[number % len(digests)]) for number in itertools.count() for kind in KINDS)
    return list(itertools.islice(turns, count))


def fuzz(path, cases, seed, workers):
    expected = predictions(path)
    run = functools.partial(run_case, str(path), expected, seed)
    if workers == 1:
        return [run(case) for case in cases]
    done = []
    with ProcessPoolExecutor(workers) as pool:
        for case in pool.map(run, cases, chunksize=20):
            done.append(case)
            if len(done) % PROGRESS_EVERY == 0:
                print(f"{len(done)} of {len(cases)}", file=sys.stderr)
    return done


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=default_model())
    parser.add_argument("--mutants", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        cases = fuzz(options.model, plans(options.mutants), options.seed, options.workers)
    faults = [case for case in cases if case.fault]
    for digest in DIGESTS:
        counts = Counter(case.result for case in cases if case.digest == digest and not case.fault)
        print(f"digest {digest}: {', '.join(f'{count} {result}' for result, count in counts.most_common())}")
    for case in faults:
        print(f"FAULT {case.kind} {case.number}, digest {case.digest}, seed {options.seed}: {case.result}")
    seconds = time.monotonic() - start
    print(f"{len(cases)} mutants of {len(KINDS)} kinds, seed {options.seed}: {len(faults)} faults, {seconds:.0f} s")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
