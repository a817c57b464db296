"""Face detectors with one protocol: the own detector, Haar, BlazeFace, YuNet or the full frame."""
