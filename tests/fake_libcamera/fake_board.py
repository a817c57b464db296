"""Prepares the import of the real picamera2 on a machine that is not a Raspberry Pi: its other packages and the DMA heap."""

import os
import sys
import types
from unittest.mock import MagicMock

# Packages with parts in C, or only for the preview window and for files.
OTHERS = ("av", "libarchive", "pidng", "pidng.core", "pidng.camdefs", "piexif", "prctl", "simplejpeg", "v4l2", "videodev2")


class AnyPackage(types.ModuleType):
    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock(return_value=0)


for _name in OTHERS:
    sys.modules[_name] = AnyPackage(_name)
sys.modules["pykms"] = MagicMock()

from picamera2 import dma_heap  # noqa: E402
from picamera2.allocators import dmaallocator  # noqa: E402


class MemoryHeap:
    isValid = True  # noqa: N815

    def alloc(self, name, size):
        handle = os.memfd_create(name)
        os.ftruncate(handle, size)
        return dma_heap.UniqueFD(handle)

    def close(self):
        pass


dmaallocator.DmaHeap = MemoryHeap
dmaallocator.fcntl = types.SimpleNamespace(ioctl=lambda *arguments: 0)
