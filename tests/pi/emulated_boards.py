"""fer-edge on emulated boards: make pi. pytest collects this file only by its name, because it takes minutes.

The folder PI_FOLDER (default build/pi) keeps the roots, and after a run the counts in instructions-SUITE.jsonl. If a change of
more than 5 % is intended, join them: cat build/pi/instructions-*.jsonl > benchmarks/results/instructions.jsonl
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import roots

from fer_edge.artifacts.instruction_records import InstructionRecord, read_instruction_records
from fer_edge.artifacts.latency_records import read_latency_records
from fer_edge.artifacts.typed_json import from_data
from fer_edge.edge_runtime.images import import_cv2, write_image
from fer_edge.train.synthetic import EXPRESSIONS, synthetic_image

HERE = Path(__file__).parent
PROJECT = HERE.parent.parent
FOLDER = Path(os.environ.get("PI_FOLDER", PROJECT / "build/pi")).resolve()
MODELS = sorted((PROJECT / "models").glob("*.tflite"))
COUNTS = PROJECT / "benchmarks/results/instructions.jsonl"
MAX_CHANGE = 0.05
FACES = 50
LARGE_EVERY = int(os.environ.get("PI_LARGE_EVERY", "10"))  # models of more than 5 MB see every tenth face only
CPUS = {"bookworm": ("pi4", "pi3"), "trixie": ("pi5",)}  # boards whose results are compared with the PC
MAX_STEPS = 1  # of 255, between the output bytes of two processors: XNNPACK rounds differently on ARM
MAX_OTHER_BOXES = 2  # of FACES, per detector: XNNPACK and the float sums of OpenCV's cascades round differently on ARM
CLIP_FRAMES = 6
PYTHON = "fer-edge-deploy/current/env/bin/python"  # of the deployed release, in the home folder

pytestmark = pytest.mark.skipif(roots.why_not() is not None, reason=str(roots.why_not()))


def fer_edge(*arguments, check=True):
    """Run fer-edge on this PC. The wrappers in FOLDER/bin make the boards known to its ssh."""
    environment = {**os.environ, "PATH": f"{FOLDER}/bin:{os.environ['PATH']}"}
    command = [sys.executable, "-c", "from fer_edge.main import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert not check or done.returncode == 0, done.stderr
    return done


def on_board(suite, *arguments, board="", count_to=""):
    """Run on_board.py in a root with the deployed release, without ssh; return its output. ``board`` replaces its processor."""
    home = f"/home/{roots.USER}"
    command = [HERE / "enter.sh", FOLDER / suite, f"HOME={home}", f"{home}/{PYTHON}", "/opt/work/on_board.py", *arguments]
    environment = {**os.environ, "BOARD": board or roots.BOARDS[suite][0], "COUNT_TO": count_to}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Drawn faces of 60 to 109 pixels in small images."""
    folder = tmp_path_factory.mktemp("images")
    names = list(EXPRESSIONS)
    for number in range(FACES):
        image = synthetic_image(names[number % len(names)], number, 200, 150, 60 + number)
        write_image(folder / f"{number:02}.png", image)
    return folder


@pytest.fixture(scope="module", params=list(roots.PORTS))
def suite(request, images, tmp_path_factory):
    """Name of a running board, to which nothing has been deployed, with the files of on_board.py in /opt/work."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:  # make pi tests each board in a process
        fcntl.flock(lock, fcntl.LOCK_EX)
        started = roots.start(FOLDER, [request.param])
    root = FOLDER / request.param
    for old in (root / "opt/work", root / f"home/{roots.USER}/fer-edge-deploy"):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(images, root / "opt/work/images")
    write_image(root / "opt/work/frame.png", synthetic_image("happy"))
    for path in (HERE / "on_board.py", *MODELS):
        shutil.copy(path, root / "opt/work")
    yield request.param
    roots.stop(FOLDER, started)


@pytest.fixture(scope="module")
def deployed(suite):
    """A board with a deployed release, and the report of the deployment."""
    report = json.loads(fer_edge("deploy", suite, "--model", "cnn_nano", "--json").stdout)
    print(f"deploy {suite}: {report['seconds']} s, {report['steps']}")
    return suite, report


def test_a_deployment_passes_its_self_test_and_the_same_again_changes_nothing(deployed):
    suite, report = deployed
    assert report["unchanged"] is False
    assert report["steps"][-1]["step"] == "switch"
    again = json.loads(fer_edge("deploy", suite, "--model", "cnn_nano", "--json").stdout)
    assert (again["unchanged"], again["release"]) == (True, report["release"])


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A clip in which a drawn face moves."""
    cv2 = import_cv2()
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30, (320, 240))
    scene = cv2.cvtColor(synthetic_image("happy", 1, 320, 240, 130), cv2.COLOR_RGB2BGR)
    for number in range(CLIP_FRAMES):
        writer.write(np.roll(scene, 3 * number, axis=1))
    writer.release()
    return path


def test_a_clip_has_the_same_labels_as_on_the_pc(deployed, clip):
    suite, _ = deployed
    arguments = ("--model", "cnn_nano", "--threads", "1", "--json")
    here = [json.loads(line) for line in fer_edge("run", clip, *arguments).stdout.splitlines()]
    with clip.open("rb") as content:
        script = f"cat > clip.mp4 && {PYTHON.replace('python', 'fer-edge')} run clip.mp4 {' '.join(arguments)}"
        done = subprocess.run([f"{FOLDER}/bin/ssh", suite, script], stdin=content, capture_output=True, text=True, check=False)
    there = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(here) == CLIP_FRAMES, done.stderr
    assert labels(there) == labels(here)
    assert any(labels(here))


def labels(frames):
    return [[face["label"] for face in frame["faces"]] for frame in frames]


def test_the_board_runs_a_benchmark_whose_times_are_never_latencies(deployed, tmp_path):
    suite, _ = deployed
    records = tmp_path / "records.jsonl"
    table = fer_edge("bench", "cnn_nano", "--host", suite, "--record", records).stdout
    (record,) = read_latency_records(records)
    assert record.environment.emulator == "qemu-aarch64-static"
    assert record.environment.cpu == roots.BOARDS[suite][1]
    assert (record.samples_ms, record.load_ms, record.problem) == ((), None, None)
    assert "emulated" in table


@pytest.fixture(scope="module")
def on_pc(images):
    """Results of this PC, by image."""
    command = [sys.executable, HERE / "on_board.py", "parity", images, LARGE_EVERY, *MODELS]
    return json.loads(subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout)


def test_from_image_to_output_a_board_computes_what_the_pc_computes(deployed, on_pc):
    suite, _ = deployed
    models = [f"/opt/work/{model.name}" for model in MODELS]
    for board in CPUS[suite]:
        there = json.loads(on_board(suite, "parity", "/opt/work/images", LARGE_EVERY, *models, board=board))
        assert there.keys() == on_pc.keys()
        assert {name: result["image"] for name, result in there.items()} == {name: r["image"] for name, r in on_pc.items()}
        same = [name for name, result in there.items() if result["boxes"] == on_pc[name]["boxes"]]
        haar = [name for name, result in there.items() if result["haar"] == on_pc[name]["haar"]]
        print(f"{board}: the same boxes in {len(same)} of {FACES} images, those of Haar in {len(haar)}")
        assert min(len(same), len(haar)) >= FACES - MAX_OTHER_BOXES
        for model in (path.stem for path in MODELS):
            pairs = [(there[name][model], on_pc[name][model]) for name in same if model in there[name]]
            assert len(pairs) >= FACES // LARGE_EVERY - MAX_OTHER_BOXES
            assert [crop for (crop, _, _), (expected, _, _) in pairs if crop != expected] == []  # what the network gets
            steps = [max_steps(output, expected) for (_, output, _), (_, expected, _) in pairs]
            labels = sum(label == expected for (_, _, label), (_, _, expected) in pairs)
            print(f"{board} {model}: {steps.count(0)} of {len(steps)} identical, max {max(steps)} steps, {labels} labels equal")
            assert max(steps) <= MAX_STEPS
            assert labels == len(pairs)
            outputs = {output for (_, output, _), _ in pairs}
            assert len(outputs) >= 0.8 * len(pairs)  # different faces, different outputs


def max_steps(output, expected):
    """The largest difference between two outputs in hexadecimal, in steps of the uint8 output."""
    return max(abs(a - b) for a, b in zip(bytes.fromhex(output), bytes.fromhex(expected), strict=True))


def test_no_stage_takes_5_percent_more_or_fewer_instructions_than_recorded(deployed):
    suite, _ = deployed
    models = sorted(MODELS, key=lambda path: path.name != "cnn_nano_fer2013_int8.tflite")
    (FOLDER / suite / "tmp/counts").unlink(missing_ok=True)
    output = on_board(suite, "count", "/opt/work/frame.png", *(f"/opt/work/{m.name}" for m in models), count_to="/tmp/counts")
    (FOLDER / f"instructions-{suite}.jsonl").write_text(output)
    if not COUNTS.is_file():
        pytest.skip(f"there is no {COUNTS}, so nothing was compared; the counts of this board are in {FOLDER}")
    found = [from_data(InstructionRecord, json.loads(line)) for line in output.splitlines()]
    recorded = {(record.cpu, record.stage, record.subject): record.instructions for record in read_instruction_records(COUNTS)}
    changes = {}
    for record in found:
        key = (record.cpu, record.stage, record.subject)
        change = record.instructions / recorded[key] - 1 if key in recorded else float("inf")
        if abs(change) > MAX_CHANGE:
            changes[key] = f"{record.instructions / 1e6:.2f} M, {change:+.1%}"
    assert changes == {}
    assert len(found) == len([key for key in recorded if key[0] == roots.BOARDS[suite][1]])
