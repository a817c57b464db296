import os
import subprocess
import sys

import pytest

from fer_edge.artifacts.run_folder import read_run_record

pytest.importorskip("jax")

# As on a rented GPU machine: JAX alone, no TensorFlow.
WITHOUT_TENSORFLOW = "import sys; sys.modules['tensorflow'] = None; from fer_edge.main import main; main()"


def test_a_network_is_trained_stopped_and_resumed_on_jax(tmp_path):
    command = ["train", "cnn_nano", "--data", "synthetic:10", "--epochs", "2", "--image-size", "32"]
    command += ["--set", "cutmix=0.3", "--set", "batch_size=8"]  # enough steps for an average of the weights
    call = [sys.executable, "-c", WITHOUT_TENSORFLOW, *command, "--out", str(tmp_path)]
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    stopped = subprocess.run([*call, "--stop-after", "0.5"], env=environment, capture_output=True, text=True, check=False)
    assert stopped.returncode == 1
    assert "stopped after epoch 1 of 2. Continue with --resume" in stopped.stderr
    subprocess.run([*call, "--resume"], env=environment, capture_output=True, check=True)
    (folder,) = tmp_path.glob("cnn_nano-*")
    run = read_run_record(folder)
    assert run.results.backend == "jax"
    assert len(run.results.history["loss"]) == 2
    assert run.results.metrics.test.count > 0
