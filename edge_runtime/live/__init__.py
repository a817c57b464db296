"""The live pipeline: detect, track, classify and smooth the faces of frame after frame."""
