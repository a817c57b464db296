import pytest
from conftest import json_lines

from fer_edge.train import search as searching
from fer_edge.train.search import search

pytest.importorskip("optuna")


def test_every_try_is_recorded_bad_ones_stop_early_and_a_search_goes_on(monkeypatch, faces, tmp_path):
    tested = []

    def pretend(plan, faces, split, folder, on_epoch, checkpoint_every):
        """A training that ends below what its epochs promise; the third is stopped at more than the others end with."""
        tested.append(set(split.test.tolist()) == set(split.validation.tolist()))
        promised, accuracy = {1: (0.9, 0.5), 2: (0.95, 0.6)}.get(len(tested), (0.8, 0.8))
        for epoch in range(1, plan.epochs + 1):
            on_epoch(epoch, {"val_accuracy": promised})
        return {"metrics": {"validation": {"accuracy": accuracy}}}

    monkeypatch.setattr(searching, "train_run", pretend)
    monkeypatch.setattr(searching, "STARTUP_TRIES", 2)
    search("cnn_nano", faces, tmp_path, tries=1, epochs=3)
    best = search("cnn_nano", faces, tmp_path, tries=2, epochs=3)
    tries = json_lines((tmp_path / "tries.jsonl").read_text())
    assert [one["number"] for one in tries] == [0, 1, 2]
    assert [one["validation_accuracy"] for one in tries] == [0.5, 0.6, None]
    assert [len(one["history"]) for one in tries] == [3, 3, 1]
    assert (best["number"], best["validation_accuracy"], best["settings"]) == (1, 0.6, tries[1]["settings"])
    assert all(tested)  # the test part stays unseen
