"""The sub-commands of fer-edge: each parses, calls one library function and prints."""
