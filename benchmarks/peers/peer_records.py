"""Records of the packages that fer-edge is compared with: one JSON line per package and measurement."""

from dataclasses import dataclass, field

from fer_edge.artifacts.latency_records import Environment, MachineState


@dataclass(frozen=True)
class Installation:
    """What an environment contains.

    Attributes:
        requirements: What was installed.
        installed_bytes: Size of the package and all its dependencies, unpacked, without Python itself, bytes.
    """

    requirements: tuple[str, ...]
    installed_bytes: int


@dataclass(frozen=True)
class FacesResult:
    """A package on the face crops of one dataset.

    Attributes:
        faces: Number of faces.
        accuracy: Fraction of faces with the right label, 0..1. Classes that the package does not know count as wrong.
        p50_ms: Median CPU time per face, preprocessing and classification, milliseconds.
        p90_ms: 90th percentile, milliseconds.
        p50_elapsed_ms: Median elapsed time per face, milliseconds; other programs on the machine make it longer.
        agreement: Mean fraction of the annotators who chose the predicted label, 0..1; None without votes.
    """

    faces: int
    accuracy: float
    p50_ms: float
    p90_ms: float
    p50_elapsed_ms: float
    agreement: float | None = None


@dataclass(frozen=True)
class PortraitsResult:
    """A package with its detector on images of one whole head each.

    Attributes:
        images: Number of images.
        found: Fraction of images whose face was found, 0..1: a box that contains the center and is at least 0.3 of the side.
        correct: Fraction of images whose face was found and labeled correctly, 0..1.
        p50_ms: Median CPU time per image, milliseconds.
        p50_elapsed_ms: Median elapsed time per image, milliseconds.
    """

    images: int
    found: float
    correct: float
    p50_ms: float
    p50_elapsed_ms: float


@dataclass(frozen=True)
class PeerRecord:
    """One package, measured or with the reason why not.

    Attributes:
        peer: Name of the package, a key of PEERS.
        date: Day of the measurement, YYYY-MM-DD.
        environment: Where it was measured.
        before: State of the machine before.
        reason: Why it was not measured; None if it was.
        versions: Versions of the package and its libraries.
        installed_bytes: Size of the package with its dependencies, bytes; None if it was not installed.
        model_bytes: Size of the file of the expression model, bytes.
        import_s: CPU time of the imports, seconds.
        load_s: CPU time of loading the model, seconds.
        faces: Results by dataset.
        portraits: Result with the package's detector.
    """

    peer: str
    date: str
    environment: Environment
    before: MachineState
    reason: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    installed_bytes: int | None = None
    model_bytes: int | None = None
    import_s: float | None = None
    load_s: float | None = None
    faces: dict[str, FacesResult] = field(default_factory=dict)
    portraits: PortraitsResult | None = None
