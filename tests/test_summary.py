"""What run prints for files: lines for images, a bar and a summary for videos."""

import io

import numpy as np
from live import LABELS, flat_image

from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.classify import Prediction
from fer_edge.edge_runtime.live.pipeline import LabeledFace, LabeledFrame
from fer_edge.edge_runtime.outputs import summary
from fer_edge.edge_runtime.outputs.summary import FileReport


class Terminal(io.StringIO):
    def isatty(self):
        return True


def video_frame(number, *labels, source="clip.mp4", count=8, rate=4.0):
    predictions = [Prediction(label, 0.4, (0.3, 0.4, 0.3), LABELS) for label in labels]
    faces = tuple(LabeledFace((0, 0, 9, 9), prediction, face) for face, prediction in enumerate(predictions, 1))
    return LabeledFrame(Frame(source, number, flat_image(), "rgb", rate, frame_count=count), faces)


def report(frames, terminal=None):
    file = io.StringIO()
    output = FileReport(file, terminal)
    for frame in frames:
        output.write(frame)
    output.close(True)
    return file.getvalue()


def test_a_video_ends_with_the_share_of_time_of_each_label():
    frames = [video_frame(0, "happy"), video_frame(1, "happy", "sad"), video_frame(2), video_frame(3, "happy")]
    frames += [video_frame(number, "happy") for number in range(4, 8)]
    assert report(frames).splitlines() == [
        "clip.mp4: 8 frames, 2.0 s, 2 faces",
        "  happy     81%      1.6 s",
        "  no face   12%      0.2 s",
        "  sad        6%      0.1 s",
    ]


def test_a_part_of_a_video_names_the_number_of_all_frames():
    assert report([video_frame(0, "sad")]) == "clip.mp4: 1 of 8 frames, 0.2 s, 1 face\n  sad  100%      0.2 s\n"
    assert report([video_frame(0, "sad", count=None)]).startswith("clip.mp4: 1 frame, ")


def test_images_get_a_line_and_each_video_of_a_folder_its_own_summary():
    image = LabeledFrame(Frame("a.png", None, np.zeros((4, 4, 3), np.uint8)), ())
    videos = [video_frame(0), video_frame(1), video_frame(0, source="next.mp4")]
    lines = report([image, *videos, image]).splitlines()
    assert [line.split(":")[0] for line in lines if line[0] != " "] == ["a.png", "clip.mp4", "next.mp4", "a.png"]


def test_the_bar_is_on_the_terminal_only_and_is_removed(monkeypatch):
    now_s = [0.0]
    monkeypatch.setattr(summary.time, "monotonic", lambda: now_s[0])
    terminal = Terminal()
    file = io.StringIO()
    output = FileReport(file, terminal)
    for number in range(8):
        output.write(video_frame(number))
        now_s[0] += 0.15
    shown = terminal.getvalue().split("\r")[1:]
    assert len(shown) == 4  # not more often than every 0.2 seconds
    assert shown[2] == "clip.mp4  [##################............] 5/8 frames"
    output.close(True)
    assert terminal.getvalue().endswith(" " * len(shown[-1]) + "\r")
    assert "\r" not in file.getvalue()
