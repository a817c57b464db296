import json
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from conftest import write_class_folders
from records import STATE, latency

from fer_edge import compare_models
from fer_edge.artifacts.contract import CropConvention, read_contract
from fer_edge.artifacts.latency_records import STAGES, LatencyProtocol
from fer_edge.artifacts.model_file import read_model_file
from fer_edge.artifacts.typed_json import append_json_lines
from fer_edge.benchmarks import energy, foreign_model, measure, stages
from fer_edge.benchmarks.backends import TensorInfo, open_runner, plan_of
from fer_edge.benchmarks.environment import busy_reasons
from fer_edge.benchmarks.foreign_model import ForeignClassifier, ForeignInput, image_size, quantize, read_labels, resize_face
from fer_edge.benchmarks.measure import failed_record, measure_model, random_inputs
from fer_edge.edge_runtime.classify import Classifier

QUICK = LatencyProtocol(warmup_runs=1, min_runs=5, min_seconds=0)
UINT8, INT8, FLOAT = np.dtype(np.uint8), np.dtype(np.int8), np.dtype(np.float32)
SHAPE = (1, 48, 48, 3)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory, int8_model):
    """The bundled model as another tool would write it: without a contract."""
    file = tmp_path_factory.mktemp("foreign") / "other.tflite"
    file.write_bytes(read_model_file(int8_model).flatbuffer)
    return file


@pytest.fixture
def labels_file(tmp_path, int8_model):
    file = tmp_path / "labels.txt"
    file.write_text("".join(f"{number} {label}\n" for number, label in enumerate(read_contract(int8_model).labels)))
    return file


def test_a_file_of_another_tool_is_measured_and_described_by_its_tensors(foreign):
    record = measure_model(foreign, 1, QUICK, detector="haar")
    assert record.problem is None
    assert (record.network, record.precision, record.data, record.parameters) == ("other", "int8", None, None)
    assert len(record.samples_ms) == 5
    assert 0 < record.arena_bytes < record.peak_memory_bytes
    assert set(record.stages.samples_ms) == set(STAGES)
    assert record.stages.detector == "haar"
    first = {stage: samples[0] for stage, samples in record.stages.samples_ms.items()}
    parts = first["detect"] + first["preprocess"] + first["classify"]
    assert first["end_to_end"] == pytest.approx(parts, abs=0.001)
    assert record.sha256
    assert record.record_version == 2


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("m.keras", b"PK", r"it cannot run: a Keras file; bench runs .tflite files"),
        ("m.tflite", b"not a model", r"it cannot run: not a .tflite file \(its first bytes are b'not a mo'\)"),
        ("cut.tflite", b"0123TFL3", r"it cannot run: "),
    ],
)
def test_the_measuring_process_ends_with_the_reason(tmp_path, name, content, reason):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(SystemExit, match=reason):
        measure.main([str(file), "1", json.dumps({}), "xnnpack", "none"])


def test_a_file_that_cannot_run_is_a_record_with_the_reason(tmp_path):
    file = tmp_path / "m.onnx"
    file.write_bytes(b"\x08\x07")
    record = measure_model(file, 1, QUICK)
    assert record.problem == "it cannot run: an ONNX file; bench runs .tflite files. Convert it first"
    assert (record.file, record.file_bytes, record.samples_ms, record.network) == ("m.onnx", 2, (), "m")


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (subprocess.CompletedProcess([], -11, "", "INFO: x"), "it ends the process that runs it (SIGSEGV)"),
        (subprocess.CompletedProcess([], 1, "", "it cannot run: damaged\nINFO: end"), "it cannot run: damaged"),
        (subprocess.CompletedProcess([], 1, "", ""), "no reason given"),
        (subprocess.TimeoutExpired([], 600), "measuring it took more than 600 s. Lower --min-runs and --min-seconds"),
    ],
)
def test_a_measuring_process_that_ends_is_a_record_with_the_reason(monkeypatch, int8_model, returned, reason):
    def run(*arguments, **options):
        if isinstance(returned, Exception):
            raise returned
        return returned

    monkeypatch.setattr(subprocess, "run", run)
    record = measure_model(int8_model, 1, QUICK, "no-xnnpack")
    assert record.problem == reason
    assert (record.network, record.backend) == (read_contract(int8_model).architecture, "no-xnnpack")


def test_a_file_whose_contract_is_damaged_is_a_record_with_the_reason(tmp_path, int8_model):
    file = tmp_path / "m.tflite"
    file.write_bytes(int8_model.read_bytes()[:-30])
    with pytest.raises(SystemExit, match=r"it cannot run: no contract inside .* it is truncated"):
        measure.main([str(file), "1", json.dumps({}), "xnnpack", "none"])
    assert failed_record(file, 1, QUICK, "xnnpack", "x").network == "m"


def test_a_backend_that_is_not_installed_is_a_reason(monkeypatch, int8_model):
    def missing(name):
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(SystemExit, match=r"the backend tflite-runtime is not installed .* pip install tflite-runtime"):
        measure.main([str(int8_model), "1", json.dumps({}), "tflite-runtime", "none"])


@pytest.mark.parametrize("backend", ["no-xnnpack", "compiled-model"])
def test_backends_give_nearly_the_same_output(int8_model, backend):
    if backend == "compiled-model":
        pytest.importorskip("ml_dtypes")
    flatbuffer = read_model_file(int8_model).flatbuffer
    outputs = []
    for name in ("xnnpack", backend):
        runner = open_runner(flatbuffer, 1, name)
        runner.write(random_inputs(runner.inputs))
        runner.invoke()
        outputs.append(runner.read()[0].astype(int))
    assert np.abs(outputs[0] - outputs[1]).max() <= 12  # of 256, on noise


def test_the_plan_has_the_type_of_the_weights(int8_model):
    arena_bytes, weights = plan_of(read_model_file(int8_model).flatbuffer)
    assert weights == "int8"
    assert 48 * 48 * 3 < arena_bytes < 2_000_000


def test_random_inputs_have_the_range_of_their_type():
    face, real, index = random_inputs(
        (TensorInfo(SHAPE, UINT8, 1.0, 0), TensorInfo((2,), FLOAT, 0.0, 0), TensorInfo((4,), np.dtype(np.int32), 0.0, 0))
    )
    assert (face.dtype, face.min() < 10, face.max() > 245) == (UINT8, True, True)
    assert (real.dtype, real.shape) == (FLOAT, (2,))
    assert index.tolist() == [0, 0, 0, 0]


def test_without_a_detector_only_the_other_stages_are_timed(monkeypatch):
    def missing(name):
        raise ImportError("not installed")

    monkeypatch.setattr(stages, "open_detector", missing)
    monkeypatch.setattr(stages, "MIN_SECONDS", 0)
    samples = stages.time_stages("yunet", CropConvention(), lambda face: face, lambda face: face)
    assert set(samples.samples_ms) == {"preprocess", "classify"}
    assert (samples.detector, samples.frame_px) == (None, (640, 480))


@pytest.mark.parametrize(
    ("samples", "share", "before", "after", "reasons"),
    [
        ([1.0] * 100, 1.0, {}, {}, ()),
        ([1.0] * 98 + [4.0] * 2, 1.0, {}, {}, ("p99 is 4.0 times p50",)),
        ([1.0], 0.6, {}, {}, ("other processes took 40% of the CPU time",)),
        ([1.0], 1.0, {"load_1min": 2.5}, {}, ("load 2.5 on 2 cores",)),
        ([1.0], 1.0, {}, {"throttle_bits": "0x4"}, ("the CPU was throttled (bits 0x4)",)),
        ([1.0], 1.0, {"throttle_bits": "0x40000"}, {"throttle_bits": "0x40000"}, ()),  # before this measurement
        ([1.0], 1.0, {}, {"throttle_bits": "0x40000"}, ("the CPU was throttled (bits 0x40000)",)),
        ([1.0], 1.0, {"throttle_count": 3}, {"throttle_count": 4}, ("the CPU was throttled by heat",)),
    ],
)
def test_a_busy_machine_has_reasons(samples, share, before, after, reasons):
    states = replace(STATE, **before), replace(STATE, **after)
    assert busy_reasons(samples, share, states, 2) == reasons


def write_sensor(folder, **files):
    folder.mkdir(parents=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")
    return folder


@pytest.fixture
def sensors(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "powercap")
    monkeypatch.setattr(energy, "HWMON", tmp_path / "hwmon")
    return tmp_path


def test_energy_is_read_from_the_counters_of_the_cpu_packages(sensors):
    first = write_sensor(sensors / "powercap" / "intel-rapl:0", name="package-0", energy_uj=900, max_energy_range_uj=1000)
    second = write_sensor(sensors / "powercap" / "intel-rapl:1", name="package-1", energy_uj=0, max_energy_range_uj=1000)
    write_sensor(sensors / "powercap" / "intel-rapl:0:0", name="core", energy_uj=5)

    def run():
        (first / "energy_uj").write_text("100\n")  # the counter started again at 0
        (second / "energy_uj").write_text("300\n")

    result = energy.measure_energy(run, seconds=0)
    assert result.joules == pytest.approx(500e-6)
    assert (result.sensor, result.runs) == ("package-0+package-1", 1)


def test_energy_is_read_from_a_power_sensor_of_the_board(sensors):
    write_sensor(sensors / "hwmon" / "hwmon0", name="ina219", power1_input=2_000_000)
    write_sensor(sensors / "hwmon" / "hwmon1", name="cpu_thermal", power1_input=5)
    result = energy.measure_energy(lambda: None, seconds=0)
    assert result.joules == pytest.approx(2 * result.seconds)
    assert result.sensor == "ina219"


def test_without_a_sensor_no_energy_is_measured(sensors):
    assert energy.measure_energy(lambda: None) is None


def test_the_size_of_an_image_input_is_found_in_both_orders():
    assert image_size([TensorInfo((1, 64, 48, 3), UINT8, 0.0, 0)]) == (64, 48, 3)
    assert image_size([TensorInfo((1, 1, 64, 48), FLOAT, 0.0, 0)]) == (64, 48, 1)
    assert image_size([TensorInfo((1, 10), FLOAT, 0.0, 0)]) is None
    assert image_size([TensorInfo(SHAPE, UINT8, 0.0, 0)] * 2) is None


def test_a_face_gets_the_channels_of_a_model():
    gray, color = np.full((4, 4), 7, np.uint8), np.zeros((4, 4, 3), np.uint8)
    color[..., 0] = 100
    assert resize_face(gray, (2, 3, 3)).tolist() == [[[7, 7, 7]] * 3] * 2
    assert resize_face(color, (2, 2, 1)).shape == (2, 2, 1)
    assert resize_face(color, (4, 4, 3), "gray")[0, 0].tolist() == [30, 30, 30]
    assert resize_face(color, (4, 4, 3))[0, 0].tolist() == [100, 0, 0]


def test_real_values_are_quantized_for_an_integer_input():
    values = np.array([-1.0, 0.0, 1.0, 9.0])
    assert quantize(values, TensorInfo((4,), INT8, 1 / 127, 0)).tolist() == [-127, 0, 127, 127]
    assert quantize(values, TensorInfo((4,), FLOAT, 0.0, 0)).dtype == FLOAT


def test_labels_are_read_with_and_without_numbers(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_text("0 angry\n\n1: happy\nsad\n")
    assert read_labels(file) == ("angry", "happy", "sad")
    file.write_text("\n")
    with pytest.raises(ValueError, match=r"is empty\. Write one label per line"):
        read_labels(file)


class FakeRunner:
    """A model of one output that returns fixed values and keeps its input."""

    def __init__(self, info, values):
        self.inputs, self.outputs = (info,), (TensorInfo((1, len(values)), FLOAT, 0.0, 0),)
        self.values = np.array([values], np.float32)

    def write(self, arrays):
        (self.written,) = arrays

    def invoke(self):
        pass

    def read(self):
        return [self.values]


@pytest.mark.parametrize(
    ("value_range", "shape", "expected"),
    [("0..1", (1, 2, 2, 3), 0.2), ("-1..1", (1, 3, 2, 2), -0.6), ("0..255", (1, 2, 2, 1), 51)],
)
def test_a_face_is_scaled_to_the_range_of_the_model(monkeypatch, tmp_path, value_range, shape, expected):
    runner = FakeRunner(TensorInfo(shape, FLOAT, 0.0, 0), [0.0, np.log(3)])
    monkeypatch.setattr(foreign_model, "open_runner", lambda content, threads: runner)
    file = tmp_path / "m.tflite"
    file.touch()
    classifier = ForeignClassifier(file, ForeignInput(None, value_range, ("a", "b")))
    assert classifier.probabilities(np.full((5, 5), 51, np.uint8)).tolist() == pytest.approx([0.25, 0.75])  # from logits
    assert runner.written.shape == shape
    assert runner.written.ravel()[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (ForeignInput(), "needs --labels and --range"),
        (ForeignInput("gray", "0..1", ("a", "b")), r"its outputs have the shapes \[\(1, 8\)\], but --labels has 2 labels"),
    ],
)
def test_settings_that_do_not_fit_the_file_are_an_error(foreign, settings, message):
    with pytest.raises(ValueError, match=message):
        ForeignClassifier(foreign, settings)
    with pytest.raises(ValueError, match=r"unknown --range '0-1'; choose one of: 0..255, 0..1, -1..1"):
        ForeignInput(value_range="0-1")


def test_a_file_without_a_contract_has_the_probabilities_of_the_same_file_with_one(foreign, int8_model):
    classifier = Classifier(int8_model)
    other = ForeignClassifier(foreign, ForeignInput("rgb", "0..255", classifier.labels))
    face = np.random.default_rng(0).integers(0, 256, SHAPE[1:], np.uint8)
    assert other.probabilities(face) == pytest.approx(classifier.probabilities(face))


@pytest.fixture
def fake_measurements(monkeypatch):
    """Each model takes 1 ms; nothing is run."""

    def measure(model, threads, protocol, backend, detector):
        digest = None if model.stem == "other" else ""
        return latency(model.stem, None, file=model.name, num_threads=threads, backend=backend, source_digest=digest)

    monkeypatch.setattr(compare_models, "measure_model", measure)


@pytest.mark.usefixtures("fake_measurements")
def test_the_accuracy_of_a_foreign_file_is_measured_with_labels_and_range(invoke, foreign, int8_model, labels_file, tmp_path):
    files, data = (foreign, int8_model), ("--data", "synthetic:10", "--protocol", "all", "--record", tmp_path / "r.jsonl")
    rows = json.loads(invoke("bench", *files, *data, "--labels", labels_file, "--range", "0..255", "--json").stdout)
    assert rows[0]["accuracy"] == rows[1]["accuracy"] > 0
    assert [row["accuracy_source"] for row in rows] == ["measured"] * 2
    records = [json.loads(line)["measured_accuracy"] for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert records[0]["faces_digest"] == records[1]["faces_digest"]
    assert records[0]["correct"].count("1") / records[0]["count"] == records[0]["accuracy"]
    (row,) = json.loads(invoke("bench", foreign, *data[:4], "--json").stdout)
    assert "its accuracy cannot be measured: the accuracy of a file without a contract needs --labels" in row["problem"]
    assert row["p50_ms"] == 2.0
    labels_file.write_text("".join(f"class {number}\n" for number in range(7)))
    (row,) = json.loads(invoke("bench", foreign, *data[:4], "--labels", labels_file, "--range", "0..255", "--json").stdout)
    assert "cannot be measured: " in row["problem"]


@pytest.mark.usefixtures("fake_measurements")
def test_votes_measure_the_agreement_and_count_faces_with_a_majority(invoke, tmp_path):
    folder = write_class_folders(tmp_path / "d", ["happy", "sad"], count=2)
    votes = {"happy/0": (0, 10, 0, 0), "happy/1": (0, 10, 0, 0), "sad/0": (0, 0, 0, 10), "sad/1": (5, 0, 0, 5)}
    lines = [f"{name}.png,{','.join(map(str, counts))},0,0,0,0,0,0" for name, counts in votes.items()]
    names = "name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    (tmp_path / "votes.csv").write_text("\n".join([names, *lines]) + "\n")
    options = ("--data", folder, "--ferplus", tmp_path / "votes.csv", "--protocol", "all", "--record", tmp_path / "r.jsonl")
    (row,) = json.loads(invoke("bench", "cnn_nano", *options, "--json").stdout)
    measured = json.loads((tmp_path / "r.jsonl").read_text())["measured_accuracy"]
    assert (measured["data"], measured["count"], len(measured["correct"])) == ("ferplus", 3, 3)
    assert row["vote_agreement"] == measured["votes"]["agreement"]
    assert measured["votes"]["count"] == 4


@pytest.mark.usefixtures("fake_measurements")
def test_every_number_of_threads_and_backend_is_a_row(invoke):
    rows = json.loads(invoke("bench", "cnn_nano", "--threads", "1,2", "--backend", "xnnpack,no-xnnpack", "--json").stdout)
    assert [(row["threads"], row["backend"]) for row in rows] == [
        (1, "xnnpack"), (1, "no-xnnpack"), (2, "xnnpack"), (2, "no-xnnpack"),
    ]  # fmt: skip


@pytest.mark.usefixtures("fake_measurements")
def test_choose_prints_the_file_and_fails_if_none_fits(invoke, error_of):
    lines = invoke("bench", "cnn_nano", "--choose", "p50 < 3 ms").stdout.splitlines()
    assert lines[0].startswith("cnn_nano")
    assert "no file meets 'p50 < 1 us'" in error_of("bench", "cnn_nano", "--choose", "p50 < 1 us")


def test_stored_records_of_several_boards_are_compared(invoke, error_of, tmp_path):
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for file, samples in zip(files, ([1.0], [4.0]), strict=True):
        append_json_lines(file, [latency(samples=samples)])
    both = ("--from", files[0], "--from", files[1])
    rows = json.loads(invoke("bench", *both, "--json", "--baseline", "cnn").stdout)
    assert [(row["board"], row["p50_ms"], row["ratio"]) for row in rows] == [("a PC [a]", 1.0, 1.0), ("a PC [b]", 4.0, 1.0)]
    assert "A p50 ms" in invoke("bench", *both).stdout
    assert "no baseline 'x'" in error_of("bench", *both, "--baseline", "x")
    files[1].write_text('{"file": "x"')
    assert "line 1 of" in error_of("bench", *both)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--backend", "gpu"), "unknown backend 'gpu'; choose from: xnnpack, no-xnnpack, compiled-model, tflite-runtime"),
        (("--columns", "p50,x"), "unknown column 'x'; choose from"),
        (("--choose", "x < 1"), "does not know 'x'"),
        (("--choose", "p50 < 1", "--json"), "--choose prints text"),
        (("--input", "bgr"), "unknown --input 'bgr'; choose one of: rgb, gray"),
        (("--labels", "none.txt"), "no labels file 'none.txt'"),
        (("--ferplus", "x.csv"), "--ferplus needs the faces"),
        (("--data", "none.zip"), "no dataset at 'none.zip'"),
        (("--data", "synthetic", "--split", "dev"), "unknown split 'dev'"),
        (("--from", "r.jsonl"), "--from shows stored records"),
        (("--detector", "x"), "unknown detector 'x'"),
    ],
)
def test_wrong_options_are_reported_before_anything_is_measured(error_of, monkeypatch, options, message):
    monkeypatch.setattr(compare_models, "measure_model", lambda *arguments: pytest.fail("measured"))
    assert message in error_of("bench", "cnn_nano", *options)
