"""The packages that fer-edge is compared with: their sources, claims, versions and adapters."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Peer:
    """One package.

    Attributes:
        registry: ``PyPI``, ``npm``, or ``fer-edge`` for this project.
        requirements: What is installed. The first one is the package itself; versions are pinned.
        adapter: Name of the adapter in this folder without its suffix; None for a package that cannot be measured.
        arguments: Arguments of the adapter's ``load``.
        claim: What the package states about its accuracy and speed.
        source: Where it states so.
        note: What a user meets with the newest versions.
        reason: Why the package is not measured; empty if it is.
        slow: Whether it is measured on a part of the faces and portraits, chosen at random with a fixed seed.
    """

    registry: str
    requirements: tuple[str, ...]
    adapter: str | None = None
    arguments: tuple[str, ...] = ()
    claim: str = "none"
    source: str = "-"
    note: str = ""
    reason: str = ""
    slow: bool = False


OWN = Peer("fer-edge", ("fer-edge[edge]",), "adapter_fer_edge")
WASM = ("@tensorflow/tfjs-backend-wasm@4.22.0",)
NO_WEIGHTS = "weights are not in the package: it downloads them at the first use"

PEERS: dict[str, Peer] = {
    **{
        f"fer-edge {name}": replace(OWN, arguments=(name,))
        for name in ("cnn_nano_ferplus", "mobilenet_v2_ferplus", "cnn_nano_fer2013", "mobilenet_v2_fer2013")
    },
    "fer": Peer(
        "PyPI",
        ("fer==25.10.3", "setuptools<81"),
        "adapter_fer",
        claim="the TFLite file is 7 times faster than the Keras file",
        source="docstring of FER in fer 25.10.3",
        note="`from fer import FER`, as its README says, fails: the class is in `fer.fer`. It needs setuptools below 81 for "
        "`pkg_resources`.",
    ),
    "facial-emotion-recognition": Peer(
        "PyPI",
        ("facial-emotion-recognition==0.3.4", "setuptools<81"),
        "adapter_facial_emotion_recognition",
        claim="accuracy 0.9566; on which data is not stated",
        source="printed when it loads its model",
        note="Fails without a GPU, also with `device='cpu'`: it loads its weights to the GPU of their training. The adapter "
        "loads them to the CPU. Its detector is MTCNN of facenet-pytorch.",
        slow=True,
    ),
    "facex": Peer(
        "PyPI",
        ("facex==1.1.0", "opencv-contrib-python<5", "setuptools<81"),
        "adapter_facex",
        claim="lightweight and high-performance; no figure",
        source="README of facex 1.1.0",
        note="pip installs OpenCV 5, which has no Haar cascades, so the package does not start. Measured with OpenCV 4.",
        slow=True,
    ),
    "@vladmandic/human": Peer(
        "npm",
        ("@vladmandic/human@3.3.6", "@tensorflow/tfjs-core@4.22.0", "@tensorflow/tfjs-converter@4.22.0", *WASM),
        "adapter_human",
        note="Its emotion model is that of oarriaga/face_classification, converted. Measured in Node.js with the wasm backend.",
        slow=True,
    ),
    "@vladmandic/face-api": Peer(
        "npm",
        ("@vladmandic/face-api@1.7.15", "@tensorflow/tfjs@4.22.0", *WASM),
        "adapter_face_api",
        claim="lightweight, fast and provides reasonable accuracy; about 310 KB",
        source="TUTORIAL.md of face-api 1.7.15",
        note="Measured in Node.js with the wasm backend. Its detector, SSD MobileNetV1, misses heads that fill "
        "the image; the same portrait with a margin of its half is found.",
        slow=True,
    ),
    "deepface": Peer("PyPI", ("deepface==0.0.103",), reason=NO_WEIGHTS),
    "hsemotion": Peer("PyPI", ("hsemotion==0.3.0",), reason=NO_WEIGHTS),
}
