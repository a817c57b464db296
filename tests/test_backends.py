import json
import os
import subprocess
import sys

import pytest

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
    assert "stopped after epoch 1 of 2. Go on: --resume" in stopped.stderr
    subprocess.run([*call, "--resume"], env=environment, capture_output=True, check=True)
    (folder,) = tmp_path.glob("cnn_nano-*")
    run = json.loads((folder / "run.json").read_text())
    assert run["backend"] == "jax"
    assert len(run["history"]["loss"]) == 2
    assert run["metrics"]["test"]["count"] > 0
