"""Train face detectors: annotate images, draw scenes, train a network."""
