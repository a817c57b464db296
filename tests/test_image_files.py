"""Images of every orientation, depth and kind of transparency, and damaged ones."""

import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from media import corner_image, corners, encode, png_chunk, pnm, textured_image, tiff, with_exif

from fer_edge.edge_runtime.images import decode_image, import_cv2
from fer_edge.edge_runtime.orientation import EXIF_ORIENTATIONS, Orientation

# The corner that is bright in the stored image comes out here: top left, top right, bottom left, bottom right.
UPRIGHT_CORNER = {1: 0, 2: 1, 3: 3, 4: 2, 5: 0, 6: 1, 7: 3, 8: 2}


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_every_exif_orientation_is_applied(suffix, value):
    data = tiff(corner_image(), value) if suffix == ".tif" else with_exif(suffix, corner_image(), value)
    image = decode_image(data, "turned")
    assert image.shape == ((60, 40, 3) if value >= 5 else (40, 60, 3))
    assert corners(image) == tuple(number == UPRIGHT_CORNER[value] for number in range(4))


def test_orientation_is_applied_to_images_with_transparency_and_16_bits():
    image = np.dstack([corner_image(depth=np.uint16, white=65535), np.full((40, 60), 65535, np.uint16)])
    assert corners(decode_image(with_exif(".png", image, 6), "deep")) == (False, True, False, False)


@pytest.mark.parametrize(
    "block",
    [b"", b"MM\0*", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"MM\0*\0\0\0\x08\0\x01\x01\x12"],
)
def test_a_damaged_exif_block_is_ignored(block):
    data = encode(".png", corner_image())
    assert corners(decode_image(data[:33] + png_chunk(b"eXIf", block) + data[33:], "x")) == (True, False, False, False)


def test_a_rotation_comes_before_the_flip():
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    turned = Orientation(90, flip=True).apply(pixels)
    assert turned.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert turned.flags["C_CONTIGUOUS"]
    assert Orientation(270).apply(pixels).tolist() == [[2, 5], [1, 4], [0, 3]]
    assert {orientation.rotate for orientation in EXIF_ORIENTATIONS.values()} == {0, 90, 180, 270}
    with pytest.raises(ValueError, match=r"one of 0, 90, 180, 270 degrees\. Received: 45"):
        Orientation(45)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("make", ["png", "tiff", "pgm"])
def test_images_of_every_depth_keep_their_brightness(bits, make):
    ramp = np.linspace(0, 2**bits - 1, 40 * 60).reshape(40, 60)
    deep = ramp.astype(np.uint16)
    data = {"png": encode(".png", deep), "tiff": tiff(deep), "pgm": pnm(deep, 2**bits - 1)}[make]
    expected = ramp / (2**bits - 1) * 255
    assert np.abs(decode_image(data, "deep")[:, :, 1] - expected).max() <= 1


def test_the_stated_white_of_a_pgm_decides_and_not_its_brightest_pixel():
    dark = np.full((8, 8), 500, np.uint16)
    assert decode_image(pnm(dark, 1000), "p").max() == 128
    assert decode_image(pnm(np.full((8, 8), 5, np.uint8), 15), "p").max() == 85
    assert decode_image(pnm(np.full((8, 8, 3), 1023, np.uint16), 1023, b"P6"), "p").min() == 255
    assert decode_image(pnm(np.full((8, 8), 1023, np.uint16), 65535), "10 bits in 16").min() == 255
    assert decode_image(b"P2 2 1 4\n4 2", "text").tolist() == [[[255] * 3, [127] * 3]]
    assert decode_image(b"P4\n8 1\n\x0f", "bitmap")[0, :, 0].tolist() == [255] * 4 + [0] * 4


def test_a_hot_pixel_does_not_make_a_10_bit_image_black():
    image = np.full((100, 100), 512, np.uint16)
    image[3, 4] = 65535
    assert decode_image(encode(".png", image), "hot")[50, 50, 0] == 128
    night = np.full((100, 100), 2000, np.uint16)
    night[:20] = 65535
    assert decode_image(encode(".png", night), "night")[50, 50, 0] == 8


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_transparent_value_of_a_gray_png_is_drawn_on_white(dtype):
    image = np.full((8, 8), 90, dtype)
    image[4:] = 20 if dtype == np.uint8 else 40000
    data = encode(".png", image)
    decoded = decode_image(data[:33] + png_chunk(b"tRNS", b"\0\x5a") + data[33:], "gray")
    assert decoded[0, 0].tolist() == [255] * 3
    assert decoded[7, 7, 0] < 200


def test_floating_point_images_are_read_as_0_to_1_or_0_to_255():
    cv2 = import_cv2()
    for scale in (1, 255):
        ramp = np.linspace(0, scale, 64, dtype=np.float32).reshape(8, 8)
        ramp[0, 0] = np.nan
        image = decode_image(cv2.imencode(".tif", ramp)[1].tobytes(), "float")
        assert image[-1, -1].tolist() == [255] * 3
        assert abs(int(image[4, 0, 0]) - 130) <= 1


def test_transparent_pixels_are_drawn_on_white():
    image = np.zeros((4, 4, 4), np.uint8)
    image[:, 2:] = (0, 0, 200, 255)  # opaque red
    image[0, :, 3] = 128
    decoded = decode_image(encode(".png", image), "erased")
    assert decoded[3].tolist() == [[255] * 3, [255] * 3, [200, 0, 0], [200, 0, 0]]
    assert decoded[0, 0].tolist() == [127] * 3


def test_an_image_in_the_alpha_channel_is_visible_in_black_and_in_white():
    alpha = np.zeros((8, 8), np.uint8)
    alpha[2:6, 2:6] = 255
    for color, background in ((0, 255), (255, 0)):
        pixels = np.dstack([np.full((8, 8, 3), color, np.uint8), alpha])
        decoded = decode_image(encode(".png", pixels), "alpha")
        assert (decoded[4, 4, 0], decoded[0, 0, 0]) == (color, background)


def test_the_unused_fourth_byte_of_a_bmp_does_not_make_it_transparent():
    header = b"BM" + struct.pack("<IHHI", 54 + 16, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 32, 0, 16, 0, 0, 0, 0)
    assert decode_image(header + bytes([10, 20, 30, 0]) * 4, "b")[0, 0].tolist() == [30, 20, 10]


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "JPEG 2000"),
        (b"\xffO\xffQ" + bytes(40), "JPEG 2000"),
        (b"GIF89a" + bytes(40), "GIF"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
        (b"\0\0\0\x18ftypavif" + bytes(40), "AVIF"),
        (b"#?RADIANCE\n", "an HDR image"),
        (b"v/1\x01" + bytes(40), "an HDR image"),
        (b"#EXTM3U\n/etc/passwd", "a playlist"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\x59\xa6\x6a\x95" + bytes(40), "it is damaged or in an unknown format"),  # Sun raster
        (b"", "it is empty"),
    ],
)
def test_only_documented_formats_reach_a_decoder_whatever_their_name(monkeypatch, data, content):
    monkeypatch.setattr(import_cv2(), "imdecode", lambda *arguments: pytest.fail("it was decoded"))
    with pytest.raises(ValueError, match=rf"cannot decode the image 'photo.jpg' \({len(data)} bytes\): .*{content}"):
        decode_image(data, "photo.jpg")


def fixed_noise(size):
    """Random bytes, always the same: about one in 150 random holes forms a stream that decoders accept."""
    return np.random.default_rng(0).bytes(size)


def hole(data, filling, size=300):
    start = len(data) // 2
    return data[:start] + filling(size) + data[start + size :]


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("filling", [bytes, lambda size: b"\xff" * size, fixed_noise], ids=["zeros", "ones", "random"])
def test_a_jpeg_with_a_hole_is_reported_as_damaged(progressive, filling):
    data = encode(".jpg", textured_image(), import_cv2().IMWRITE_JPEG_PROGRESSIVE, progressive)
    assert decode_image(data, "good.jpg").shape == (200, 200, 3)
    with pytest.raises(ValueError, match=r"'hole\.jpg'.* damaged"):
        decode_image(hole(data, filling), "hole.jpg")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_jpeg_that_is_cut_off_names_the_share_that_is_lost(share):
    data = encode(".jpg", textured_image())
    with pytest.raises(ValueError, match="it is cut off, about") as error:
        decode_image(data[: int(len(data) * share)], "cut.jpg")
    assert abs(int(str(error.value).split("about ")[1].split("%")[0]) - 100 * (1 - share)) <= 10


def test_a_jpeg_that_lacks_only_its_end_mark_or_has_more_data_after_it_is_complete():
    data = encode(".jpg", textured_image())
    for variant in (data[:-2], data + bytes(5000), data + data):  # the last one is the form of .mpo
        assert np.array_equal(decode_image(variant, "x"), decode_image(data, "x"))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".ppm"])
def test_other_formats_that_are_cut_off_are_rejected(suffix):
    data = encode(suffix, textured_image())
    with pytest.raises(ValueError, match=r"cannot decode the image 'x'.* is damaged or cut off"):
        decode_image(data[: int(len(data) * 0.7)], "x")


def test_a_small_file_that_expands_to_an_enormous_image_is_rejected():
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b"")
    data = b"\x89PNG\r\n\x1a\n" + chunks
    code = "import sys; from fer_edge.edge_runtime.images import decode_image as d; d(sys.stdin.buffer.read(), 'bomb.png')"
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=False)
    assert b"the image 'bomb.png' (65 bytes) has more than 134217728 pixels" in done.stderr


def test_decoders_write_nothing_to_standard_error_and_other_lines_pass(capfd, monkeypatch):
    monkeypatch.delenv("FER_EDGE_DEBUG", raising=False)
    data = encode(".jpg", textured_image())
    with pytest.raises(ValueError, match="damaged"):
        decode_image(hole(data, fixed_noise), "x.jpg")
    assert capfd.readouterr().err == ""
    monkeypatch.setenv("FER_EDGE_DEBUG", "1")
    with pytest.raises(ValueError, match="damaged"):
        decode_image(hole(data, fixed_noise), "x.jpg")
    assert "JPEG" in capfd.readouterr().err
