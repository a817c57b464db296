"""Draw boxes and labels on an image."""

import numpy as np

from fer_edge.edge_runtime.images import Image, import_cv2
from fer_edge.edge_runtime.live.pipeline import LabeledFrame
from fer_edge.edge_runtime.outputs.drawn_label import fitted_text

GREEN = (60, 220, 60)
BLACK = (0, 0, 0)
FONT_SCALE_PER_PX = 1 / 700  # text grows with the image
MIN_FONT_SCALE = 0.4


def annotate(labeled: LabeledFrame) -> Image:
    """Draw a box, a label and a probability for each face on a copy of the frame.

    The label is above the box, or below it if there is no room, and never leaves the image: one that is wider than the image
    is shortened.

    Returns:
        uint8 array (height, width, 3), RGB.
    """
    cv2 = import_cv2()
    image = labeled.frame.image.copy()
    scale = max(MIN_FONT_SCALE, max(image.shape[:2]) * FONT_SCALE_PER_PX)
    thickness = max(1, round(2 * scale))

    def size_of(text: str) -> tuple[int, int, int]:
        (text_width, text_height), descent = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
        return text_width, text_height, descent

    def has_room(text: str) -> bool:
        return size_of(text)[0] <= image.shape[1]

    for face in labeled.faces:
        x, y, width, height = face.box_px
        cv2.rectangle(image, (x, y), (x + width, y + height), GREEN, thickness)
        text = fitted_text(face.label, face.prediction.labels, f"{face.probability:.0%}", has_room)
        text_width, text_height, descent = size_of(text)
        left = max(0, min(x, image.shape[1] - text_width))
        if y - descent - text_height > 0:
            baseline = y - descent
        else:
            baseline = min(y + height + text_height + descent, image.shape[0] - descent)
        top_left, bottom_right = (left, baseline - text_height - descent // 2), (left + text_width, baseline + descent)
        cv2.rectangle(image, top_left, bottom_right, GREEN, cv2.FILLED)
        cv2.putText(image, text, (left, baseline), cv2.FONT_HERSHEY_SIMPLEX, scale, BLACK, thickness, cv2.LINE_AA)
    return np.asarray(image, np.uint8)
