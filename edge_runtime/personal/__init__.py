"""Personal corrections: fit one to a person and a camera, evaluate it, store it, apply it to probabilities."""
