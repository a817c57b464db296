"""PiCamera on the real picamera2: take frames until the camera is silent, and open it again. Prints JSON.

``python scenario.py WIDTHxHEIGHT`` with PYTHONPATH for this folder, picamera2 and fer_edge.
"""

import json
import os
import sys
import threading

import fake_board  # noqa: F401
import libcamera
import numpy as np

from fer_edge.edge_runtime.cameras import raspberry_pi
from fer_edge.edge_runtime.cameras.camera import CameraError, frames_with_reconnect
from fer_edge.edge_runtime.orientation import Orientation

raspberry_pi.FRAME_TIMEOUT_S = 1.0
raspberry_pi.CLOSE_TIMEOUT_S = float(os.environ.get("CLOSE_TIMEOUT_S", 30))
width, height = map(int, sys.argv[1].split("x"))
camera = raspberry_pi.PiCamera((width, height), 30, Orientation(180))
messages, frames, stop = [], [], threading.Event()


def keep_message(text):
    messages.append(text)
    if "is back" in text or "Restart" in text:
        stop.set()


try:
    for frame in frames_with_reconnect(camera, stop, keep_message, delays_s=(0.01,)):
        frames.append(frame.pixels)
except CameraError as error:
    messages.append(str(error))
first = frames[0]
chroma = first[height:].reshape(2, -1)
print(
    json.dumps(
        {
            "started_with": libcamera.CameraManager.singleton().started_with,
            "shape": first.shape,
            "luma": bool((first[:height] == np.arange(width) % 251).all()),
            "chroma": [np.unique(plane).tolist() for plane in chroma],
            "messages": messages,
        }
    ),
    flush=True,
)
os._exit(0)  # a camera that an old picamera2 cannot release would stop the exit
