"""A sample of the mutants that ``make fuzz`` runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_models import FORGED, KEPT, Case
from mutants import KINDS

pytest.importorskip("ai_edge_litert", reason="the mutants are made with its schema")
SAMPLE = 300


# In an interpreter of its own: a fork of the test process, which has threads of TensorFlow, can wait for a lock forever.
PROGRAM = f"""
import json, sys
from pathlib import Path
from fuzz_models import FORGED, KEPT, fuzz, plans
cases = fuzz(Path(sys.argv[1]), plans({SAMPLE}, (KEPT, FORGED)), seed=1, workers=1)
print(json.dumps([(case.kind, case.number, case.digest, case.result) for case in cases]))
"""


def test_no_mutant_ends_the_process_hangs_or_changes_the_model_unnoticed(int8_model, tmp_path):
    paths = [str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(int8_model)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    cases = [Case(*fields) for fields in json.loads(done.stdout)]
    assert [case for case in cases if case.fault] == []
    assert {case.kind for case in cases} == set(KINDS)
    assert sum(case.result == "rejected" for case in cases) > 0.8 * SAMPLE


@pytest.mark.parametrize(
    ("digest", "result", "fault"),
    [
        (KEPT, "rejected", False),
        (KEPT, "changed", True),
        (FORGED, "changed", False),
        (FORGED, "ends the process (SIGSEGV)", True),
        (FORGED, "takes 1500 MB", True),
        (KEPT, "KeyError: 'x'", True),
    ],
)
def test_a_change_is_a_fault_only_if_the_digest_could_reveal_it(digest, result, fault):
    assert Case("flip_any", 0, digest, result).fault == fault
