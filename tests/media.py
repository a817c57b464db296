"""Image and video files of unusual kinds, made from drawn pixels."""

import struct
import zlib

import numpy as np

from fer_edge.edge_runtime.images import import_cv2

ROTATION_MATRICES = {  # of an mp4 track: a, b, c, d
    0: (1, 0, 0, 1),
    90: (0, 1, -1, 0),
    180: (-1, 0, 0, -1),
    270: (0, -1, 1, 0),
}


def corner_image(height=40, width=60, depth=np.uint8, white=255):
    """Black, with a white top-left corner of 12 x 20 pixels: shows how an image was turned."""
    image = np.zeros((height, width, 3), depth)
    image[:12, :20] = white
    return image


def corners(image):
    """Which corners are bright: (top left, top right, bottom left, bottom right)."""
    mean = image if image.ndim == 2 else image.mean(axis=2)
    return tuple(bool(mean[y, x] > 127) for y, x in ((3, 3), (3, -4), (-4, 3), (-4, -4)))


def textured_image(side=200, seed=0):
    """Smooth noise with high contrast, which compresses as photos do."""
    cv2 = import_cv2()
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX)


def encode(suffix, image, *options):
    """The content of an image file."""
    return import_cv2().imencode(suffix, image, list(options))[1].tobytes()


def exif_block(value):
    """A TIFF structure with the orientation tag only."""
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, value, 0, 0)


def png_chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def with_exif(suffix, image, value):
    """An image file with an EXIF orientation."""
    data = encode(suffix, image)
    block = exif_block(value)
    if suffix == ".jpg":
        block = b"Exif\0\0" + block
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]
    if suffix == ".png":
        return data[:33] + png_chunk(b"eXIf", block) + data[33:]
    if suffix == ".webp":
        height, width = image.shape[:2]
        header = b"VP8X" + struct.pack("<I", 10) + bytes([8, 0, 0, 0]) + struct.pack("<I", width - 1)[:3]
        chunks = header + struct.pack("<I", height - 1)[:3] + data[12:] + b"EXIF" + struct.pack("<I", len(block)) + block
        return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks
    raise ValueError(suffix)


def tiff(image, orientation=1):
    """An uncompressed gray or RGB TIFF of 8 or 16 bits."""
    height, width = image.shape[:2]
    bits, channels = image.itemsize * 8, 1 if image.ndim == 2 else image.shape[2]
    content = image.astype(image.dtype.newbyteorder("<")).tobytes()
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 2 if channels == 3 else 1), (273, 8)]
    tags += [(274, orientation), (277, channels), (278, height), (279, len(content))]
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(content)) + content + struct.pack("<H", len(tags)) + entries + bytes(4)


def pnm(image, max_value, kind=b"P5"):
    """A binary PGM or PPM file that states a value of white."""
    content = image.astype(">u2" if max_value > 255 else np.uint8).tobytes()
    return b"%s\n# made by a test\n%d %d\n%d\n" % (kind, image.shape[1], image.shape[0], max_value) + content


def write_video(path, frames, codec="mp4v", rate=10):
    """Write frames (height, width, 3), BGR."""
    cv2 = import_cv2()
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()


def rotate_mp4(path, degrees):
    """Set the rotation tag of an mp4 file."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # version 0
    a, b, c, d = (number << 16 for number in ROTATION_MATRICES[degrees])
    struct.pack_into(">9i", data, matrix, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def set_pixel_aspect(path, numerator, denominator):
    """Add the sample aspect ratio to an mp4 file whose index is at the end."""
    data = path.read_bytes()
    box = struct.pack(">I4sII", 16, b"pasp", numerator, denominator)
    entry = data.index(b"mp4v", data.index(b"stsd"))
    at = entry - 4 + struct.unpack_from(">I", data, entry - 4)[0]
    grown = bytearray(data[:at] + box + data[at:])
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"mp4v"):
        start = data.index(name, data.index(b"moov")) - 4 if name != b"mp4v" else entry - 4
        struct.pack_into(">I", grown, start, struct.unpack_from(">I", data, start)[0] + len(box))
    path.write_bytes(grown)


def damage(path, start, end):
    """Overwrite a part of a file with random bytes; start and end are shares of its size."""
    data = bytearray(path.read_bytes())
    first, last = int(len(data) * start), int(len(data) * end)
    data[first:last] = np.random.default_rng(0).integers(0, 256, last - first, np.uint8).tobytes()
    path.write_bytes(data)
