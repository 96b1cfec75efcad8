"""Every picture becomes the same RGB pixels each time, or an error that names its row."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from taskgym.envs import DataError
from taskgym.envs.images import MOST_PIXELS, at_most, image_hash, open_image, to_png


def encoded(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def pixels(source):
    return np.asarray(open_image(source, "row 7"))


def noise(width, height):
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def bomb(side):
    """A valid PNG of a few bytes that says it has side x side pixels."""

    def chunk(name, content):
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"),
        (b"not an image", "no image that Pillow knows"),
        (b"\x89PNG\r\n\x1a\n", "no image that Pillow knows"),
        (encoded(noise(64, 64))[:2000], "truncated or broken"),
        (encoded(noise(64, 64), "JPEG")[:900], "truncated or broken"),
        (encoded(noise(64, 64), "GIF")[:-1500], "truncated or broken"),
        (bomb(9_000), f"{MOST_PIXELS:,}"),
        (bomb(2_000_000), f"{MOST_PIXELS:,}"),
    ],
)
def test_a_hostile_file_is_an_error_that_names_the_row(content, what, tmp_path):
    file = tmp_path / "picture.png"
    file.write_bytes(content)
    for source in (content, {"bytes": content, "path": None}, str(file)):
        with pytest.raises(DataError, match="row 7") as raised:
            open_image(source, "row 7")
        assert what in str(raised.value)


@pytest.mark.parametrize("source", [None, "", 3.5, {}, []])
def test_no_picture_at_all_is_an_error_that_names_the_row(source):
    with pytest.raises(DataError, match="row 7: an image is a path"):
        open_image(source, "row 7")


def test_a_missing_file_and_a_picture_without_pixels_name_the_row(tmp_path):
    with pytest.raises(DataError, match=r"row 7: no image at .*gone\.png"):
        open_image("gone.png", "row 7", folder=tmp_path)
    with pytest.raises(DataError, match="row 7: the image has no pixels"):
        open_image(Image.new("RGB", (0, 5)), "row 7")


def test_transparency_is_laid_on_white():
    clear = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    clear.putpixel((1, 0), (255, 0, 0, 128))
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([9, 9, 9])
    for mode in ("RGBA", "LA"):
        assert pixels(encoded(clear.convert(mode)))[0, 0].tolist() == [255, 255, 255]
    assert pixels(encoded(clear))[0, 1].tolist() == [255, 127, 127]
    assert pixels(encoded(palette, transparency=0)).tolist() == [[[255, 255, 255]]]
    assert pixels(encoded(palette)).tolist() == [[[9, 9, 9]]]


def test_palettes_are_resized_as_colours_not_as_numbers():
    """The notebook resized first: indices between two entries are colours that were never there."""
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.putdata([0, 2])
    assert open_image(picture, "row").getcolors() == [(1, (255, 0, 0)), (1, (0, 0, 255))]


def test_cmyk_and_grey_and_one_bit_become_rgb():
    assert pixels(encoded(Image.new("CMYK", (4, 4), (0, 0, 0, 255)), "TIFF"))[0, 0].max() < 5
    assert pixels(encoded(Image.new("L", (1, 1), 77))).tolist() == [[[77, 77, 77]]]
    assert pixels(encoded(Image.new("1", (1, 1), 1))).tolist() == [[[255, 255, 255]]]


def test_sixteen_bits_become_eight_without_clipping():
    deep = Image.fromarray(np.array([[0, 0x7FFF, 0xFFFF]], dtype=np.uint16))
    for source in (deep, encoded(deep), encoded(deep, "TIFF"), deep.convert("I")):
        assert pixels(source)[0, :, 0].tolist() == [0, 127, 255]
    with pytest.raises(DataError, match="floats"):
        open_image(Image.new("F", (1, 1)), "row 7")


def test_the_rotation_of_the_camera_is_applied():
    picture = Image.new("RGB", (2, 1), "black")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter to the right
    assert open_image(encoded(picture, "JPEG", exif=exif), "row").size == (1, 2)


def test_of_an_animation_the_first_frame_is_shown():
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    file = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    moved = Image.open(io.BytesIO(file))
    moved.seek(1)
    for source in (file, moved):
        assert pixels(source)[0, 0].tolist() == [255, 0, 0]


def test_the_same_source_gives_the_same_pixels_and_hash(tmp_path):
    picture = noise(30, 20)
    file = tmp_path / "a.png"
    file.write_bytes(encoded(picture))
    hashes = {
        image_hash(open_image(source, "row"))
        for source in (picture, file, str(file), file.read_bytes(), {"path": str(file)}, [file])
    }
    assert len(hashes) == 1
    assert hashes == {image_hash(open_image(to_png(picture), "row"))}
    assert image_hash(noise(30, 20)) != image_hash(noise(20, 30))


def test_what_is_opened_shares_nothing_with_its_source():
    picture = Image.new("RGB", (2, 2), "red")
    opened = open_image(picture, "row")
    opened.putpixel((0, 0), (0, 0, 0))
    assert picture.getpixel((0, 0)) == (255, 0, 0)
    assert opened.info == {}


@pytest.mark.parametrize("size", [(1000, 10), (10, 1000), (300, 200), (10, 10)])
def test_too_many_pixels_are_scaled_down_with_the_aspect_ratio_kept(size):
    small = at_most(Image.new("RGB", size), 2500)
    assert small.width * small.height <= 2500
    scale = min(1, (2500 / (size[0] * size[1])) ** 0.5)
    assert abs(small.width - size[0] * scale) <= 1 and abs(small.height - size[1] * scale) <= 1
