"""Face detectors with one protocol: Haar, BlazeFace, YuNet or the full frame."""
