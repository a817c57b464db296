"""A sample of the mutants that ``make fuzz`` runs."""

import pytest
from fuzz_models import FORGED, KEPT, Case, fuzz, plans
from mutants import KINDS

pytest.importorskip("ai_edge_litert", reason="the mutants are made with its schema")
SAMPLE = 300


def test_no_mutant_ends_the_process_hangs_or_changes_the_model_unnoticed(int8_model, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cases = fuzz(int8_model, plans(SAMPLE, (KEPT, FORGED)), seed=1, workers=1)
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
