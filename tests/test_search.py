from types import SimpleNamespace

import pytest
from conftest import json_lines

from fer_edge.train import search as searching
from fer_edge.train.search import search

pytest.importorskip("optuna")


def test_every_trial_is_recorded_bad_trials_stop_early_and_a_search_continues(monkeypatch, faces, tmp_path):
    tested = []

    def pretend(plan, faces, split, folder, on_epoch):
        """A training whose final accuracy is below that of its epochs. The third trial is stopped at a higher accuracy."""
        tested.append(set(split.test.tolist()) == set(split.validation.tolist()))
        promised, accuracy = {1: (0.9, 0.5), 2: (0.95, 0.6)}.get(len(tested), (0.8, 0.8))
        for epoch in range(1, plan.epochs + 1):
            on_epoch(epoch, {"val_accuracy": promised})
        metrics = SimpleNamespace(validation=SimpleNamespace(accuracy=accuracy))
        return SimpleNamespace(results=SimpleNamespace(metrics=metrics))

    monkeypatch.setattr(searching, "train_run", pretend)
    monkeypatch.setattr(searching, "STARTUP_TRIALS", 2)
    search("cnn_nano", faces, tmp_path, trials=1, epochs=3)
    best = search("cnn_nano", faces, tmp_path, trials=2, epochs=3)
    trials = json_lines((tmp_path / "trials.jsonl").read_text())
    assert [trial["number"] for trial in trials] == [0, 1, 2]
    assert [trial["validation_accuracy"] for trial in trials] == [0.5, 0.6, None]
    assert [len(trial["history"]) for trial in trials] == [3, 3, 1]
    assert (best["number"], best["validation_accuracy"], best["settings"]) == (1, 0.6, trials[1]["settings"])
    assert all(tested)  # the test split stays unseen
