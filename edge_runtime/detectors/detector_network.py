"""The network of the own face detector: a checked file, its contract and its interpreter."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.detector_contract import DetectorContract, read_detector_file
from fer_edge.artifacts.user_folders import user_data_folder
from fer_edge.edge_runtime.detectors.decode import FloatArray
from fer_edge.edge_runtime.images import Image
from fer_edge.edge_runtime.interpreter import open_interpreter, tensor_view

DETECTOR_FILE = "face_detector_nano.tflite"
BUNDLED_FILE = Path(__file__).with_name(DETECTOR_FILE)
MISSING_FILE = f"the package of fer-edge lacks its file {DETECTOR_FILE}. Install it again, or choose --detector haar"


def own_detector_model() -> Path | None:
    """Return the detector file in the user's data folder, else the one in the installed package, else None."""
    candidates = [user_data_folder() / DETECTOR_FILE, BUNDLED_FILE]
    return next((path for path in candidates if path.is_file()), None)


class _Output(NamedTuple):
    """A map of the network.

    Attributes:
        view: The memory of its tensor, without the batch axis.
        scale: Real value of one step; 0 for a float output.
        zero_point: Integer that represents real 0.
    """

    view: npt.NDArray[Any]
    scale: float
    zero_point: int

    def values(self) -> FloatArray:
        """Return the real values. Those of a float output share the memory of the tensor."""
        # float32 first: subtracting a zero point from int8 would overflow.
        return self.view if not self.scale else np.float32(self.scale) * (self.view.astype(np.float32) - self.zero_point)


class DetectorNetwork:
    """Runs the network of a detector file.

    Args:
        path: The .tflite file.

    Attributes:
        contract: Its contract.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If no interpreter is installed.
        ModelError: If it is not a detector file of fer-edge, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        file = read_detector_file(path)
        self.contract: DetectorContract = file.contract
        self._interpreter = open_interpreter(path, content=file.flatbuffer)
        self._input = tensor_view(self._interpreter, self._interpreter.get_input_details()[0]["index"])
        outputs = {tuple(detail["shape"].tolist()): self._output(detail) for detail in self._interpreter.get_output_details()}
        rows, columns = self.contract.height, self.contract.width
        self._heat_maps = [outputs[1, rows // stride, columns // stride, 1] for stride in self.contract.strides]
        self._geometry_maps = [outputs[1, rows // stride, columns // stride, 7] for stride in self.contract.strides]

    def _output(self, detail: dict[str, Any]) -> _Output:
        scale, zero_point = detail["quantization"]
        return _Output(tensor_view(self._interpreter, detail["index"])[0], scale, zero_point)

    def infer(self, pixels: Image) -> tuple[list[FloatArray], list[FloatArray]]:
        """Run the network.

        Args:
            pixels: uint8 array (height, width), gray, of the size in the contract.

        Returns:
            The heat maps (rows, columns, 1) and the geometry maps (rows, columns, 7), one per stride. The next call overwrites
            them.
        """
        np.copyto(self._input[0, :, :, 0], pixels)
        self._interpreter.invoke()
        return [output.values() for output in self._heat_maps], [output.values() for output in self._geometry_maps]
