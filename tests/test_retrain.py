"""A finished run once more, on train and validation together."""

import shutil
from dataclasses import replace

import numpy as np

from fer_edge.artifacts.run_folder import read_run_record, write_run_record
from fer_edge.train.evaluation_set import TrainingProvenance, select_faces
from fer_edge.train.retrain import RetrainOptions, retrain
from fer_edge.train.splits import ids_digest, make_split


def test_a_run_is_trained_again_with_its_validation_faces_and_its_choices(run_folder, faces, tmp_path, error_of):
    folder = shutil.copytree(run_folder, tmp_path / "run")
    first = read_run_record(folder)
    write_run_record(folder, replace(first, results=replace(first.results, temperature=1.7, unsure_threshold=0.123)))
    trained = retrain(folder, "synthetic:12", RetrainOptions(tmp_path / "final"))
    record, results = trained.record, trained.results
    assert record.plan == replace(first.plan, validated_by=first.results.model_digest)
    assert sorted(record.ids.train) == sorted(first.ids.train + first.ids.validation)
    assert (record.ids.validation, record.ids.test) == (first.ids.validation, first.ids.test)
    assert (results.temperature, results.unsure_threshold) == (1.7, 0.123)
    assert results.metrics.train.count == len(first.ids.train) + len(first.ids.validation)
    assert record.split.validation_in_training
    assert record.split.train_digest == ids_digest(record.ids.train)

    def error(run, data, out):
        return error_of("dev", "retrain", run, "--data", data, "--out", tmp_path / out)

    assert "was trained on its validation faces already" in error(trained.folder, "synthetic:12", "more")
    assert "was trained on other data" in error(folder, "synthetic:11", "more")
    assert "--resume" in error(folder, "synthetic:12", "final")
    assert read_run_record(folder).split.validation_in_training is False


def provenance(faces, split):
    return TrainingProvenance(faces.labels, faces.name, faces.fingerprint, split.summary(faces))


def test_the_validation_faces_of_such_a_run_are_not_measured_without_a_warning(faces):
    split = make_split(faces, "subject", seed=1)
    whole = split.with_validation_in_training()
    assert np.array_equal(whole.train, np.sort(np.concatenate([split.train, split.validation])))
    test = select_faces(faces, provenance(faces, whole))
    assert test.warning is None
    assert test.faces.ids == faces.subset(split.test).ids
    validation = select_faces(faces, provenance(faces, whole), split="validation")
    assert validation.warning == "the split 'validation' contains faces that the model was trained on"
    chosen = select_faces(faces, provenance(faces, split), split="validation")
    assert chosen.warning == "the split 'validation' contains the faces that chose and calibrated the model"
