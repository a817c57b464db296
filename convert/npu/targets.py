"""The NPUs that convert can compile for, what each needs, and whether it is installed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec

from fer_edge.artifacts.tool_environment import ToolEnvironment

QUALCOMM, ETHOS_U, IMX500 = "qualcomm", "ethos-u", "imx500"
LIST = "list"
SDK_PREFIX = "ai-edge-litert-sdk-"
LIBRARY_SUFFIXES = (".so", ".dll", ".a")

# Sony's quantizer needs Keras 2, which TensorFlow contains up to 2.15 only.
IMX500_TOOLS = ToolEnvironment(
    IMX500,
    "the quantizer and the compiler of the Raspberry Pi AI Camera",
    "PyPI",
    (
        *("tensorflow==2.15.1", "imx500-converter[tf]==3.19.2", "edge-mdt-cl==1.1.1", "pydantic==2.11.10", "networkx==3.0"),
        *("matplotlib==3.9.4", "scikit-image==0.26.0", "scikit-learn==1.9.1", "PuLP==3.3.2", "tqdm==4.70.1"),
    ),
    install_mb=2500,
    # The quantizer asks for another mct-quantizers than the converter. It works with that of the converter.
    no_dependencies=("model-compression-toolkit==2.6.1", "edge-mdt-tpc==1.3.0"),
    pythons=("3.11",),
    programs=(("java", "apt install default-jre-headless"),),
)


@dataclass(frozen=True)
class Vendor:
    """A family of NPUs.

    Attributes:
        title: The devices that have such an NPU.
        modules: The Python modules that the compiler needs here.
        install: The command that installs the compiler.
        integer_only: Whether the NPU needs a file without operators in float.
        environment: The environment of the compiler; None if it is an extra of fer-edge.
    """

    title: str
    modules: tuple[str, ...]
    install: str
    integer_only: bool
    environment: ToolEnvironment | None = None

    def is_installed(self) -> bool:
        """Return whether the compiler can be used."""
        if self.environment is not None:
            return self.environment.is_installed()
        return all(find_spec(module) for module in self.modules)


VENDORS: dict[str, Vendor] = {
    QUALCOMM: Vendor(
        "Android phones and boards with Snapdragon",
        ("ai_edge_litert", "onnxruntime", "onnxruntime_qnn", "onnx"),
        "pip install 'fer-edge[npu-qualcomm]' (x86-64 Linux, Python 3.11 or newer)",
        integer_only=False,
    ),
    ETHOS_U: Vendor(
        "microcontrollers and boards with Arm Ethos-U, such as Alif Ensemble and NXP i.MX 93",
        ("ethosu",),
        "pip install 'fer-edge[npu-ethos-u]'",
        integer_only=True,
    ),
    IMX500: Vendor(
        "Raspberry Pi AI Camera",
        (),
        "fer-edge doctor --install imx500 (x86-64 Linux, Python 3.11, Java, 2.5 GB)",
        integer_only=False,  # its quantizer takes the weights of any int8 file
        environment=IMX500_TOOLS,
    ),
}


@dataclass(frozen=True)
class NpuTarget:
    """An NPU to compile for.

    Attributes:
        name: Its name on the command line.
        vendor: Name in VENDORS.
        chip: The name that the compiler has for it.
        title: The chip or configuration in words.
    """

    name: str
    vendor: str
    chip: str
    title: str

    @property
    def file_suffix(self) -> str:
        """The end of the name of a compiled file."""
        return self.name.replace(":", "-")

    @property
    def integer_only(self) -> bool:
        """Whether the NPU runs no operator in float."""
        return VENDORS[self.vendor].integer_only


SNAPDRAGONS = {
    "SM8350": "Snapdragon 888",
    "SM8450": "Snapdragon 8 Gen 1",
    "SM8550": "Snapdragon 8 Gen 2",
    "SM8650": "Snapdragon 8 Gen 3",
    "SM8750": "Snapdragon 8 Elite",
    "SM8850": "Snapdragon 8 Elite Gen 5",
    "SA8255": "Snapdragon Ride/Cockpit SA8255P",
    "SA8295": "Snapdragon Cockpit SA8295P",
}
ETHOS_U_MACS = {"u55": (32, 64, 128, 256), "u65": (256, 512), "u85": (128, 256, 512, 1024, 2048)}


def _targets() -> Iterable[NpuTarget]:
    for chip, title in SNAPDRAGONS.items():
        yield NpuTarget(f"{QUALCOMM}:{chip}", QUALCOMM, chip, title)
    for series, sizes in ETHOS_U_MACS.items():
        for macs in sizes:
            name = f"ethos-{series}-{macs}"
            yield NpuTarget(name, ETHOS_U, name, f"Ethos-{series.upper()} with {macs} multipliers")
    yield NpuTarget(IMX500, IMX500, IMX500, "Sony IMX500")


TARGETS: dict[str, NpuTarget] = {target.name: target for target in _targets()}


def find_target(name: str) -> NpuTarget:
    """Return the target of a name.

    Args:
        name: Name in TARGETS; upper and lower case are equal.

    Raises:
        ValueError: If there is no such target.
    """
    targets = {key.lower(): target for key, target in TARGETS.items()}
    if name.lower() not in targets:
        chip = name.partition(":")[0].lower()
        similar = [key for key, target in TARGETS.items() if chip and (target.vendor == chip or key.startswith(chip[:9]))]
        raise ValueError(f"unknown NPU '{name}'; choose one of: {', '.join(similar or TARGETS)}")
    return targets[name.lower()]


def check_installed(targets: Iterable[NpuTarget]) -> None:
    """Check that the compilers of targets are installed.

    Raises:
        ImportError: If one is not. The message has the install command.
    """
    for target in targets:
        vendor = VENDORS[target.vendor]
        if not vendor.is_installed():
            raise ImportError(f"the compiler for {target.name} is not installed. Install it: {vendor.install}")


def target_rows() -> list[tuple[str, str, str, str]]:
    """Return the targets for a table: name, device, whether the compiler is installed, and how to install it."""
    rows = []
    for target in TARGETS.values():
        vendor = VENDORS[target.vendor]
        rows.append((target.name, target.title, "installed" if vendor.is_installed() else "missing", vendor.install))
    return rows


def empty_sdks(distributions: Callable[[], Iterable[metadata.Distribution]] = metadata.distributions) -> list[str]:
    """Return the vendors' SDK packages that are installed without content.

    Their setup downloads the content from the vendor. Without internet access, pip still reports that they are installed.

    Args:
        distributions: Returns the installed packages.
    """
    names = []
    for package in distributions():
        name = package.metadata["Name"] or ""
        libraries = [file for file in package.files or () if file.suffix in LIBRARY_SUFFIXES]
        if name.lower().replace("_", "-").startswith(SDK_PREFIX) and not libraries:
            names.append(name)
    return sorted(names)
