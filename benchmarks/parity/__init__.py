"""Parity: the same faces through every runtime, and whether the outputs are equal."""
