"""How a dataset is read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fer_edge.artifacts.contract import CropConvention
from fer_edge.train.class_names import LabelMap, parse_label_map

AUTO, CROPS, PHOTOS = "auto", "crops", "photos"
FACES = (AUTO, CROPS, PHOTOS)
MAX_FACE_PX = 96  # the largest input of a network by default


def check_faces(faces: str) -> None:
    """Check what kind of images a dataset is said to have.

    Raises:
        ValueError: If it is not one of FACES.
    """
    if faces not in FACES:
        raise ValueError(f"unknown kind of images '{faces}' for --faces; choose one of: {', '.join(FACES)}")


@dataclass(frozen=True)
class ReadOptions:
    """How a dataset is read.

    Attributes:
        label_map: CLASS=LABEL per renamed class; ``CLASS=-`` leaves it out.
        stored_label_map: The same, of the training data of a model. A pair whose class the data lacks is ignored.
        faces: ``crops`` if the images are face crops, ``photos`` if faces must be cut out of them, or ``auto`` to find out.
        detector: Finds the faces in photos, see open_detector.
        crop_for: Returns the crop convention for photos, from the name of the detector. Default: the detector's own, at the
            resolution of the faces in the data.
        max_face_px: Without ``crop_for``: largest side of a face that is cut out, pixels.
        check_counts: Called with the number of images per label before an image is decoded, and again with those that can be
            used.

    Raises:
        ValueError: If ``faces`` is unknown.
    """

    label_map: Sequence[str] = ()
    stored_label_map: Sequence[str] = ()
    faces: str = AUTO
    detector: str = "auto"
    crop_for: Callable[[str], CropConvention] | None = None
    max_face_px: int = MAX_FACE_PX
    check_counts: Callable[[Mapping[str, int]], None] | None = None

    def __post_init__(self) -> None:
        check_faces(self.faces)

    def parsed_label_map(self) -> LabelMap:
        """Return the parsed class maps.

        Raises:
            ValueError: If a pair is not CLASS=LABEL.
        """
        return parse_label_map(self.label_map, self.stored_label_map)

    def report_counts(self, counts: Mapping[str, int]) -> None:
        """Call check_counts, if there is one."""
        if self.check_counts:
            self.check_counts(counts)


DEFAULT_OPTIONS = ReadOptions()
