"""Which detector a deployment copies to the board."""

from fer_edge.deploy.known_image import detector_file
from fer_edge.edge_runtime.detectors.detector_network import BUNDLED_FILE


def test_the_default_detector_is_copied_as_a_file_of_the_release(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    copied = detector_file("auto")
    assert (copied.name, copied.file, copied.place) == ("detector.tflite", BUNDLED_FILE, "detector.tflite")
    assert copied.is_path
    assert copied == detector_file("own")


def test_haar_needs_no_file():
    assert detector_file("haar").file is None
