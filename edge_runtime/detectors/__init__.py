"""Face detectors behind one protocol: Haar, BlazeFace, YuNet, or the full frame."""
