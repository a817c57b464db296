import json

import pytest

from fer_edge.artifacts.model_file import read_model_file
from fer_edge.artifacts.npu_summary import NpuSummary
from fer_edge.convert.metadata import append_contract
from fer_edge.edge_runtime.find_model import find_bundled


@pytest.fixture
def npu_files(tmp_path):
    """Two files as convert --npu writes them: with and without the results of a simulator."""
    from dataclasses import replace

    file = read_model_file(find_bundled("cnn_nano_fer2013"))
    simulated = file.contract.metrics
    after = replace(simulated.after, accuracy=0.6517)
    for name, npu in (
        ("simulated", NpuSummary("qualcomm:SM8750", "x", 33, {}, 1, simulated=replace(simulated, after=after), simulator="s")),
        ("estimated", NpuSummary("ethos-u55-128", "x", 29, {"SOFTMAX": 4}, 1, estimated_ms=0.83)),
    ):
        (tmp_path / f"{name}.tflite").write_bytes(append_contract(file.flatbuffer, replace(file.contract, npu=npu)))
    return tmp_path


def test_bench_shows_operators_and_simulated_accuracy_but_no_latency_of_an_npu(invoke, npu_files):
    result = invoke("bench", npu_files, "--record", npu_files / "records.jsonl")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    (header,) = (line for line in lines if line.startswith("network"))
    assert header.split()[-1] == "NPU"
    (ethos,) = (line for line in lines if "ethos-u55-128 29/33" in line)
    (snapdragon,) = (line for line in lines if "qualcomm:SM8750 33/33, 0.652 simulated" in line)
    assert "not measured" in ethos
    assert "not measured" in snapdragon
    assert "0.83" not in result.stdout  # the estimate of a compiler is not a latency
    assert "its latency was not measured: only a device with ethos-u55-128 can run it" in " ".join(result.stdout.split())
    again = json.loads(invoke("bench", "--from", npu_files / "records.jsonl", "--json").stdout)
    assert [
        (row["npu"], row["npu_operators"], row["model_operators"], row["npu_accuracy"], row["p50_ms"]) for row in again
    ] == [
        ("ethos-u55-128", 29, 33, None, None),
        ("qualcomm:SM8750", 33, 33, 0.6517, None),
    ]
    assert [row["accuracy"] for row in again] == [None, None]


def test_a_file_for_cpus_has_no_npu_column(invoke, int8_model):
    result = invoke("bench", int8_model, "--min-runs", 1, "--min-seconds", 0)
    assert "NPU" not in result.stdout
