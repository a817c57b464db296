"""Cut faces out of whole photos, with the detector and the crop convention of the camera."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np

from fer_edge.artifacts.contract import BOX_TRANSFORMS, BoxTransform, CropConvention
from fer_edge.artifacts.training_data import PhotoSummary
from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.crop import crop_face
from fer_edge.edge_runtime.detectors.detection import Detector
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.images import Image
from fer_edge.edge_runtime.live.detect_and_track import DetectAndTrack, DetectionInterval
from fer_edge.edge_runtime.live.pipeline import PipelineSettings
from fer_edge.edge_runtime.live.stats import PipelineStats
from fer_edge.edge_runtime.live.tracker import TrackedFace
from fer_edge.train.dataset import DataError
from fer_edge.train.dataset_files import DatasetFiles
from fer_edge.train.read_options import CROPS, PHOTOS, ReadOptions

SAMPLE = 60  # images that decide whether a dataset has photos, and their resolution
TINY_PX = 64  # shorter side; an image up to this size is a face crop
MAX_CROP_ASPECT = 1.25  # longer to shorter side; a more oblong image is a photo
MIN_CROP_SHARE = 0.6  # of the crop's side in that of the image; below, the image is a photo. FER2013 and CK+: 0.6 to 0.9
MIXED_SHARE = 0.2  # of the sample; from here, the minority is reported


@dataclass(frozen=True)
class SampledImage:
    """An image of the sample.

    Attributes:
        height: Height, pixels.
        width: Width, pixels.
        crop_side: Side of the crop around its largest face, pixels; None if no face was found or searched.
    """

    height: int
    width: int
    crop_side: float | None

    @property
    def is_photo(self) -> bool:
        """Whether the image shows more than a face."""
        short, long = sorted((self.height, self.width))
        if short <= TINY_PX:
            return False
        return long > MAX_CROP_ASPECT * short or (self.crop_side is not None and self.crop_side < MIN_CROP_SHARE * short)


class FaceFinder:
    """Finds faces in single images exactly as ``fer-edge run`` does.

    Args:
        detector: The detector.
    """

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        settings = PipelineSettings()
        self._detect = DetectAndTrack(detector, DetectionInterval(), settings.min_face_px, settings.max_faces, PipelineStats())

    def find(self, image: Image) -> list[TrackedFace]:
        """Return the faces in an image, uint8 (height, width, 3), RGB; the largest first."""
        self._detect.reset()
        return self._detect.update(Frame("photo", None, image))


class PhotoCropper:
    """Cuts the largest face out of each photo and counts. A tiny image is a face crop and stays as it is.

    Args:
        finder: Finds the faces.
        crop: Crop convention; it has a box transform for the detector.

    Attributes:
        crop: The crop convention.
        summary: What was found so far.
    """

    def __init__(self, finder: FaceFinder, crop: CropConvention) -> None:
        self.crop = crop
        self.summary = PhotoSummary(finder.detector.name, 0, 0, 0, 0)
        self._finder = finder

    def cut(self, image: Image) -> Image | None:
        """Cut out the largest face.

        Args:
            image: uint8 array (height, width, 3), RGB.

        Returns:
            uint8 array (side, side, 3), or the image itself if it is tiny. None if no face is found.
        """
        self._count("images")
        if min(image.shape[:2]) <= TINY_PX:
            self._count("face_crops")
            return image
        faces = self._finder.find(image)
        if not faces:
            self._count("without_face")
            return None
        if len(faces) > 1:
            self._count("several_faces")
        return crop_face(image, faces[0].box_px, self._finder.detector.name, self.crop, faces[0].eyes_px)

    def _count(self, name: str) -> None:
        self.summary = replace(self.summary, **{name: getattr(self.summary, name) + 1})


def open_cropper(
    files: DatasetFiles, names: Sequence[str], options: ReadOptions
) -> tuple[PhotoCropper | None, tuple[str, ...]]:
    """Decide whether the images of a dataset are photos, and prepare to cut faces out of them.

    Args:
        files: The dataset.
        names: Its images.
        options: Those for photos are used.

    Returns:
        The cropper, None where the images are face crops; and notes for the user.

    Raises:
        ValueError: If the detector is unknown, or is ``none``.
        ImportError: If it is not installed.
        DataError: If no face is found in a sample of the photos.
    """
    if options.faces == CROPS:
        return None, ()
    automatic = options.faces != PHOTOS
    sample = [image for _, image in files.decoded(_spread(names, SAMPLE), [], None)]
    if automatic and all(min(image.shape[:2]) <= TINY_PX for image in sample):
        return None, ()
    finder = FaceFinder(open_detector(options.detector))
    name = finder.detector.name
    if name == "none":
        raise ValueError(f"photos need a detector that finds faces. Received: --detector {name}. For crops: --faces {CROPS}")
    given = options.crop_for(name) if options.crop_for else None
    transform = (given.box_transforms if given else BOX_TRANSFORMS).get(name, BoxTransform())
    sampled = [_sampled(image, finder, transform) for image in sample]
    photos = sum(image.is_photo for image in sampled)
    note = _mixed_note(photos, len(sampled)) if automatic else ()
    if automatic and photos <= len(sampled) / 2:
        return None, note
    sides = [image.crop_side for image in sampled if image.crop_side is not None]
    if not sides:
        raise DataError(
            f"the detector '{name}' finds no face in {len(sampled)} images of {files.path}, for example in "
            f"'{PurePosixPath(names[0])}'. If they are face crops already: --faces {CROPS}. Otherwise try another --detector"
        )
    resolution_px = min(options.max_face_px, round(float(np.median(sides))))
    return PhotoCropper(finder, given or CropConvention(name, resolution_px, {name: transform})), note


def _spread(names: Sequence[str], count: int) -> list[str]:
    """Return at most ``count`` names, evenly spread."""
    return [names[number * len(names) // count] for number in range(count)] if len(names) > count else list(names)


def _sampled(image: Image, finder: FaceFinder, transform: BoxTransform) -> SampledImage:
    faces = finder.find(image)
    side = max(faces[0].box_px[2:]) * transform.scale if faces else None
    return SampledImage(image.shape[0], image.shape[1], side)


def _mixed_note(photos: int, sampled: int) -> tuple[str, ...]:
    minority = min(photos, sampled - photos)
    if minority < MIXED_SHARE * sampled:
        return ()
    taken, other = (PHOTOS, CROPS) if photos > sampled / 2 else (CROPS, PHOTOS)
    return (
        f"{photos} of {sampled} sampled images look like whole photos, the others like face crops. All are read as {taken}; "
        f"--faces {other} decides otherwise",
    )
