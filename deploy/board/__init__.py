"""The part of a deployment that runs on the board, sent over ssh to its python3.

These modules use the standard library only, and run on Python 3.8 and later: an old board gets an error that says so.
"""
