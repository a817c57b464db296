import os
import socket
import threading

import pytest
from live import FakeCamera, FakeClassifier, FakeDetector, FakeSource, flat_image, frame

from fer_edge.edge_runtime.cameras import read_limit
from fer_edge.edge_runtime.cameras.camera import CameraError
from fer_edge.edge_runtime.cameras.source import LiveSource
from fer_edge.edge_runtime.live import heartbeat, service_manager
from fer_edge.edge_runtime.live.heartbeat import Heartbeat, PolledEvent
from fer_edge.edge_runtime.live.pipeline import Pipeline
from fer_edge.edge_runtime.live.service_manager import notify, report_to_service_manager, watchdog_s
from fer_edge.edge_runtime.live.stats import PipelineStats
from fer_edge.edge_runtime.outputs.secret import read_secret


class FakeManager:
    """The socket of a service manager. The socket has no file, as systemd's may."""

    def __init__(self, monkeypatch, watchdog_us=300_000):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0fer-edge-test-" + os.urandom(4).hex())
        self.socket.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + self.socket.getsockname()[1:].decode())
        monkeypatch.setenv("WATCHDOG_USEC", str(watchdog_us))
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))

    def receive(self):
        return self.socket.recv(4096).decode()

    def receive_until(self, text):
        received = []
        while text not in (received or [""])[-1]:
            received.append(self.receive())
        return received


class FakeClock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def manager(monkeypatch):
    return FakeManager(monkeypatch)


def test_a_stage_is_busy_from_its_last_sign_of_progress():
    clock = FakeClock()
    heart = Heartbeat(clock)
    assert heart.slowest() == ("", 0.0)
    with heart.busy("capture"), heart.busy("detect"):
        clock.now_s += 7
        heart.beat("capture")
        clock.now_s += 2
        assert heart.slowest() == ("detect", 9.0)
    heart.beat("capture")  # between two frames: not busy
    assert heart.slowest() == ("", 0.0)


def test_a_loop_that_checks_or_awaits_its_event_makes_progress(monkeypatch):
    monkeypatch.setattr(heartbeat, "POLL_S", 0.01)
    polls = []

    def poll():
        polls.append(1)
        if len(polls) == 5:
            event.set()

    event = PolledEvent(poll)
    assert not event.is_set()
    assert len(polls) == 1
    assert event.wait(60) is True
    assert len(polls) == 5
    assert not PolledEvent(poll).wait(0.0)


def test_waiting_for_a_camera_is_not_a_hang(monkeypatch):
    clock = FakeClock()
    heart = Heartbeat(clock)
    camera = FakeCamera([CameraError("missing", "none"), flat_image(1)], reconnects=False)
    seen = []

    class Stop(PolledEvent):
        def wait(self, timeout=None):
            clock.now_s += 200
            seen.append(heart.slowest())
            return super().wait(0)

    stop = Stop(lambda: heart.beat("capture"))
    with heart.busy("capture"):
        frame = next(LiveSource(camera, wait=True).frames(stop))
        assert (frame.number, seen) == (0, [("capture", 200.0)])
        assert heart.slowest() == ("capture", 0.0)


def test_a_run_reports_that_it_is_ready_works_and_ends(manager):
    stats, messages = PipelineStats(), []
    with report_to_service_manager(stats, Heartbeat(), messages.append):
        assert manager.receive() == "READY=1"
        assert manager.receive() == "WATCHDOG=1\nSTATUS=0 frames labeled, 0 dropped"
        assert messages == []
        stats.processed, stats.dropped = 12, 3
        manager.receive_until("12 frames labeled, 3 dropped")
    assert manager.receive_until("STOPPING=1")
    assert len(messages) == 1
    assert messages[0].startswith("first frame labeled ")


def test_a_run_that_hangs_sends_no_sign_of_life_until_it_goes_on(manager):
    clock = FakeClock()
    heart = Heartbeat(clock)
    reported = threading.Event()
    messages = []

    def report(text):
        messages.append(text)
        reported.set()

    with heart.busy("detect"), report_to_service_manager(PipelineStats(), heart, report, max_busy_s=75):
        manager.receive_until("WATCHDOG=1")
        clock.now_s += 76
        assert manager.receive_until("hangs")[-1] == "STATUS=hangs in detect"
        assert reported.wait(5)
        assert messages == ["the stage 'detect' hangs since 76 s; the service manager restarts the program"]
        heart.beat("detect")
        assert manager.receive().startswith("WATCHDOG=1")


def test_without_a_service_manager_nothing_happens(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    threads = threading.active_count()
    with report_to_service_manager(PipelineStats(), Heartbeat(), pytest.fail):
        assert threading.active_count() == threads
    monkeypatch.setenv("NOTIFY_SOCKET", "@nobody-listens-here")
    assert notify("READY=1") is False


@pytest.mark.parametrize(("time_us", "process", "seconds"), [("30000000", "", 30.0), ("30000000", "1", None), ("", "", None)])
def test_the_watchdog_time_is_that_of_this_process(monkeypatch, time_us, process, seconds):
    monkeypatch.setenv("WATCHDOG_USEC", time_us)
    monkeypatch.setenv("WATCHDOG_PID", process)
    assert watchdog_s() == seconds


def test_the_longest_silence_of_a_slow_stream_is_not_a_hang():
    assert service_manager.MAX_BUSY_S > read_limit.MAX_LIMIT_S


@pytest.mark.parametrize("stage", ["capture", "detect", "label", "output"])
def test_the_pipeline_names_the_stage_that_hangs(stage):
    entered, release = threading.Event(), threading.Event()

    def hang():
        entered.set()
        assert release.wait(10)

    class Detector(FakeDetector):
        def detect(self, *arguments, **options):
            if stage == "detect":
                hang()
            return super().detect(*arguments, **options)

    def frames():
        yield frame(0)
        if stage == "capture":
            hang()

    classifier = FakeClassifier(hang if stage == "label" else None)
    pipeline = Pipeline(FakeSource(frames(), live=True), Detector(), classifier)

    def consume():
        for _ in pipeline:
            if stage == "output":
                hang()

    consumer = threading.Thread(target=consume)
    consumer.start()
    assert entered.wait(10)
    assert pipeline.heartbeat.slowest()[0] == stage
    release.set()
    consumer.join(10)
    assert pipeline.heartbeat.slowest() == ("", 0.0)


def test_a_secret_comes_from_the_environment_or_a_credential(monkeypatch, tmp_path):
    monkeypatch.delenv("FER_EDGE_MQTT_PASSWORD", raising=False)
    assert read_secret("FER_EDGE_MQTT_PASSWORD") is None
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_secret("FER_EDGE_MQTT_PASSWORD") is None
    (tmp_path / "mqtt-password").write_text("a secret\n")
    assert read_secret("FER_EDGE_MQTT_PASSWORD") == "a secret"
    monkeypatch.setenv("FER_EDGE_MQTT_PASSWORD", "another")
    assert read_secret("FER_EDGE_MQTT_PASSWORD") == "another"


def test_an_unusable_credential_is_an_error(monkeypatch, tmp_path):
    monkeypatch.delenv("FER_EDGE_TOKEN", raising=False)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "token").write_bytes(b"\xff" * 20)
    with pytest.raises(ValueError, match="is not text in UTF-8"):
        read_secret("FER_EDGE_TOKEN")
    (tmp_path / "token").write_bytes(b"a" * 4097)
    with pytest.raises(ValueError, match="has 4097 bytes; at most 4096"):
        read_secret("FER_EDGE_TOKEN")
