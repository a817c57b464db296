"""A stand-in for libcamera's Python module, so that the real picamera2 runs: one Camera Module 2 (imx219) with four modes.

Environment: FAKE_ALIGN, the bytes to which rows of YUV420 are padded: 64 on a Raspberry Pi 4, 128 on a Raspberry Pi 5.
FAKE_FRAMES, the frames after which each opened camera is silent.
"""

import enum
import os
import select
import sys
import threading
import time
import types

# From `rpicam-hello --list-cameras` in the documentation of the camera software: size, crop and frames per second.
MODES = {
    (640, 480): ((1000, 752, 1280, 960), 206.65),
    (1640, 1232): ((0, 0, 3280, 2464), 41.85),
    (1920, 1080): ((680, 692, 1920, 1080), 47.57),
    (3280, 2464): ((0, 0, 3280, 2464), 21.19),
}
FRAME_S = 1 / 60

StreamRole = enum.Enum("StreamRole", "Raw StillCapture VideoRecording Viewfinder")
Orientation = enum.Enum(
    "Orientation", "Rotate0 Rotate0Mirror Rotate180 Rotate180Mirror Rotate90Mirror Rotate270 Rotate270Mirror Rotate90"
)
ControlType = enum.Enum("ControlType", "Bool Integer Float Rectangle Size")
LoggingTarget = types.SimpleNamespace(Syslog=0)


class Transform:
    def __init__(self, other=None, hflip=False, vflip=False, transpose=False):
        self.hflip = bool(other.hflip if other else hflip)
        self.vflip = bool(other.vflip if other else vflip)
        self.transpose = bool(other.transpose if other else transpose)

    def __str__(self):  # picamera2 takes it as __repr__ too
        return f"hflip={self.hflip} vflip={self.vflip}"


class Size:
    def __init__(self, width, height):
        self.width, self.height = width, height

    def to_tuple(self):
        return self.width, self.height


class Rectangle:
    def __init__(self, x, y, width, height):
        self.x, self.y, self.width, self.height = x, y, width, height

    def to_tuple(self):
        return self.x, self.y, self.width, self.height


class PixelFormat:
    def __init__(self, name):
        self.name = name

    def __str__(self):
        return self.name


class ColorSpace:
    YcbcrEncoding = enum.Enum("YcbcrEncoding", "Null Rec601 Rec709")
    Range = enum.Enum("Range", "Full Limited")

    def __init__(self, primaries=1, transfer=1, encoding=None, value_range=None):
        if isinstance(primaries, ColorSpace):  # a copy
            self.__dict__.update(primaries.__dict__)
            return
        self.primaries, self.transferFunction = primaries, transfer
        self.ycbcrEncoding, self.range = encoding or self.YcbcrEncoding.Rec601, value_range or self.Range.Full

    def __str__(self):
        return f"{self.primaries}/{self.transferFunction}"

    @classmethod
    def Sycc(cls):  # noqa: N802
        return cls()

    @classmethod
    def Smpte170m(cls):  # noqa: N802
        return cls(2, 2, cls.YcbcrEncoding.Rec601, cls.Range.Limited)

    @classmethod
    def Rec709(cls):  # noqa: N802
        return cls(3, 2, cls.YcbcrEncoding.Rec709, cls.Range.Limited)

    @classmethod
    def Raw(cls):  # noqa: N802
        return cls(0, 0, cls.YcbcrEncoding.Null, cls.Range.Full)


class ControlId:
    def __init__(self, name, kind=ControlType.Integer):
        self.name, self.type = name, kind

    def __hash__(self):
        return hash(self.name)

    def __eq__(self, other):
        return getattr(other, "name", None) == self.name


controls = types.ModuleType("libcamera.controls")
for _name in ("ExposureTime", "ExposureTimeMode", "AnalogueGain", "AnalogueGainMode"):
    setattr(controls, _name, ControlId(_name))
controls.draft = types.SimpleNamespace(NoiseReductionModeEnum=types.SimpleNamespace(Off=0, Fast=1, HighQuality=2, Minimal=3))
properties = types.SimpleNamespace(draft=types.SimpleNamespace(ColorFilterArrangementEnum=types.SimpleNamespace(MONO=9)))
_libcamera = types.SimpleNamespace(ColorSpace=ColorSpace, Transform=Transform)
sys.modules.update({"libcamera.controls": controls, "libcamera._libcamera": _libcamera})


class FrameMetadata:
    Status = enum.Enum("Status", "Success Error Cancelled")


class FrameBuffer:
    class Plane:
        fd, offset, length = -1, 0, 0

    def __init__(self, planes):
        self.planes = planes
        self.metadata = types.SimpleNamespace(status=FrameMetadata.Status.Success, timestamp=0, sequence=0, planes=[])


class FrameBufferAllocator:
    pass


class Request:
    Status = enum.Enum("Status", "Pending Complete Cancelled")
    Reuse = enum.Enum("Reuse", "Default ReuseBuffers")

    def __init__(self, cookie):
        self.cookie, self.buffers, self.status, self.metadata = cookie, {}, self.Status.Pending, {}

    def add_buffer(self, stream, buffer):
        self.buffers[stream] = buffer

    def reuse(self, *flags):
        self.status = self.Status.Pending

    def set_control(self, *control):
        pass


class RawFormats:
    pixel_formats = (PixelFormat("SRGGB10_CSI2P"), PixelFormat("SRGGB8"))

    def sizes(self, pixel_format):
        return [Size(*size) for size in MODES]


class StreamConfiguration:
    def __init__(self, role):
        self.role, self.stream, self.formats = role, object(), RawFormats()
        self.size, self.pixel_format, self.color_space = Size(800, 600), PixelFormat("XRGB8888"), None
        self.buffer_count, self.stride, self.frame_size = 4, 0, 0


class SensorConfiguration:
    bit_depth, output_size = 0, None


class CameraConfiguration:
    Status = enum.Enum("Status", "Valid Adjusted Invalid")

    def __init__(self, roles):
        self.streams = [StreamConfiguration(role) for role in roles]
        self.orientation, self.sensor_config = Orientation.Rotate0, None

    def at(self, index):
        return self.streams[index]

    def __iter__(self):
        return iter(self.streams)

    def validate(self):
        align = int(os.environ.get("FAKE_ALIGN", 64))
        for stream in self.streams:
            width, height = stream.size.to_tuple()
            bytes_per_pixel = {"YUV420": 1, "XRGB8888": 4, "XBGR8888": 4}.get(str(stream.pixel_format), 2)
            stream.stride = -(-width * bytes_per_pixel // align) * align
            stream.frame_size = stream.stride * height * 3 // 2 if bytes_per_pixel == 1 else stream.stride * height
        return self.Status.Valid


class Camera:
    id = "/base/soc/i2c0mux/i2c@1/imx219@10"

    def __init__(self, manager):
        self.manager, self.lock, self.queue = manager, threading.Lock(), []
        self.properties = {
            ControlId("Model"): "imx219",
            ControlId("Location"): 2,
            ControlId("Rotation"): 180,
            ControlId("ColorFilterArrangement"): 0,
            ControlId("PixelArraySize"): Size(3280, 2464),
        }
        self.set_mode((640, 480))

    def set_mode(self, size):
        crop, rate = MODES[size]
        limits = {
            "FrameDurationLimits": (ControlType.Integer, round(1e6 / rate), 10**7),
            "NoiseReductionMode": (ControlType.Integer, 0, 4),
            "ExposureTime": (ControlType.Integer, 75, 10**6),
            "AnalogueGain": (ControlType.Float, 1, 16),
            "ScalerCrop": (ControlType.Rectangle, Rectangle(0, 0, 64, 64), Rectangle(*crop)),
        }
        self.controls = {
            ControlId(name, kind): types.SimpleNamespace(min=low, max=high, default=low)
            for name, (kind, low, high) in limits.items()
        }

    def acquire(self):
        if self.manager.acquired:
            raise RuntimeError("failed to acquire camera: Device or resource busy")
        self.manager.acquired = True

    def release(self):
        self.manager.acquired = False

    def generate_configuration(self, roles):
        return CameraConfiguration(roles)

    def configure(self, configuration):
        self.configuration = configuration
        self.set_mode(configuration.sensor_config.output_size.to_tuple())

    def start(self, controls):
        self.manager.started_with = {
            "mode": self.configuration.sensor_config.output_size.to_tuple(),
            "bit_depth": self.configuration.sensor_config.bit_depth,
            "orientation": self.configuration.orientation.name,
            "frame_duration_us": next(value for name, value in controls.items() if name.name == "FrameDurationLimits"),
        }
        self.left = int(os.environ.get("FAKE_FRAMES", 10**9))
        self.stopped = threading.Event()
        threading.Thread(target=self.run, args=(self.stopped,), daemon=True).start()

    def stop(self):
        self.stopped.set()
        with self.lock:
            self.queue.clear()

    def create_request(self, cookie):
        return Request(cookie)

    def queue_request(self, request):
        with self.lock:
            self.queue.append(request)

    def run(self, stopped):
        """Fill the buffers: Y is the column modulo 251, U is 100, V is 200, the padding 1."""
        main = self.configuration.at(0)
        width, height = main.size.to_tuple()
        padding, half_padding = bytes([1]) * (main.stride - width), bytes([1]) * ((main.stride - width) // 2)
        luma = bytes(column % 251 for column in range(width)) + padding
        chroma = [bytes([value]) * (width // 2) + half_padding for value in (100, 200)]
        content = luma * height + b"".join(row * (height // 2) for row in chroma)
        while self.left and not stopped.wait(FRAME_S):
            with self.lock:
                request = self.queue.pop(0) if self.queue else None
            if request:
                self.left -= 1
                buffer = request.buffers[main.stream]
                os.pwrite(buffer.planes[0].fd, content, 0)
                request.status, buffer.metadata.timestamp = Request.Status.Complete, time.monotonic_ns()
                self.manager.complete(request)


class CameraManager:
    instance = None

    def __init__(self):
        self.event_fd, self.event_write_fd = os.pipe()
        self.lock, self.ready, self.acquired, self.started_with = threading.Lock(), [], False, None
        self.cameras = [Camera(self)]

    @classmethod
    def singleton(cls):
        cls.instance = cls.instance or cls()
        return cls.instance

    def complete(self, request):
        with self.lock:
            self.ready.append(request)
        os.write(self.event_write_fd, b"x")

    def get_ready_requests(self):
        with self.lock:
            ready, self.ready = self.ready, []
        while select.select([self.event_fd], [], [], 0)[0]:
            os.read(self.event_fd, 64)
        return ready

    def get(self, name):
        return next(camera for camera in self.cameras if camera.id == name)
