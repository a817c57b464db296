"""How a dataset is read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fer_edge.train.class_names import LabelMap, parse_label_map


@dataclass(frozen=True)
class ReadOptions:
    """How a dataset is read.

    Attributes:
        label_map: CLASS=LABEL per renamed class; ``CLASS=-`` leaves it out.
        stored_label_map: The same, of the training data of a model. A pair whose class the data lacks is ignored.
        check_counts: Called with the number of images per label before an image is decoded.
    """

    label_map: Sequence[str] = ()
    stored_label_map: Sequence[str] = ()
    check_counts: Callable[[Mapping[str, int]], None] | None = None

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
