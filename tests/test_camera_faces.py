"""Calibration faces from the user's own images."""

from live import FakeDetector
from media import encode, textured_image

from fer_edge.artifacts.contract import CropConvention
from fer_edge.artifacts.reporter import Reporter
from fer_edge.convert import camera_faces


def test_images_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    data = encode(".jpg", textured_image(100))
    for name, content in {"a.jpg": data, "cut.jpg": data[: len(data) // 2], "b.heic": b"\0\0\0\x18ftypheic"}.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(camera_faces, "crop_convention", lambda run: CropConvention())
    monkeypatch.setattr(camera_faces, "open_detector", lambda name: FakeDetector((20, 20, 40, 40)))
    reporter, warnings = Reporter(), []
    reporter.warn = warnings.append
    assert len(camera_faces.collect_calibration_faces(tmp_path, None, reporter=reporter)) == 1
    assert warnings[0].startswith(f"skipped: the JPEG '{tmp_path / 'cut.jpg'}'")
    assert warnings[1] == f"left out 2 of 3 in '{tmp_path}': 1 HEIC (b.heic); 1 damaged (cut.jpg)"
