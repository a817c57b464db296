"""The live pipeline: capture, detect, track, classify and smooth the faces of successive frames."""
