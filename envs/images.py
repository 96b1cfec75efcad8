"""Any image file or object to the RGB pixels a model is shown: one path, the same every time."""

from __future__ import annotations

import base64
import hashlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taskgym.envs.errors import DataError

MOST_PIXELS = 64_000_000  # of a file, before it is decoded: 192 MB as RGB; a bomb has more
_DEEP = {"I;16", "I;16L", "I;16B", "I;16N", "I"}  # 16 bits a pixel, some held in 32


def open_image(source: Any, where: str, *, folder: Path | None = None) -> Any:
    """Decodes an image to RGB.

    Transparency is laid on white, palettes and CMYK are converted, 16 bits become 8, the camera's
    rotation (EXIF) is applied, and of an animation the first frame is taken.

    Args:
        source: A path, bytes, a `PIL.Image`, or a mapping with `bytes` or `path` as data sets
            have; of a list, the first.
        where: Names the row, for the errors.
        folder: What a relative path starts from.

    Returns:
        A `PIL.Image` of mode RGB that shares nothing with `source`.

    Raises:
        DataError: Nothing there, no image, empty, truncated, or more than `MOST_PIXELS`.
    """
    image = _opened(source, where, folder)
    _check_size(image, where)
    try:
        image.seek(0)
        return _rgb(image, where)
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on a broken file
        raise DataError(f"{where}: the image is truncated or broken: {_said(error)}") from error


def image_hash(image: Any) -> str:
    """16 hex digits of an RGB image's size and pixels."""
    digest = hashlib.blake2b(f"{image.width}x{image.height}".encode(), digest_size=8)
    digest.update(image.tobytes())
    return digest.hexdigest()


def at_most(image: Any, max_pixels: int) -> Any:
    """The image with no more pixels than that, its aspect ratio kept; a smaller one as it is."""
    if image.width * image.height <= max_pixels:
        return image
    scale = (max_pixels / (image.width * image.height)) ** 0.5
    return scaled(image, max(1, int(image.width * scale)), max(1, int(image.height * scale)))


def scaled(image: Any, width: int, height: int) -> Any:
    """The image at that size, by the filter that keeps thin lines."""
    from PIL import Image

    return image.resize((width, height), Image.Resampling.LANCZOS)


def padded(image: Any, width: int, height: int) -> Any:
    """The image in the middle of a white canvas of that size."""
    from PIL import Image

    if (image.width, image.height) == (width, height):
        return image
    canvas = Image.new("RGB", (width, height), "white")
    canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return canvas


def to_png(image: Any) -> bytes:
    """The image as PNG, from which the same pixels come back."""
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def data_url(image: Any) -> str:
    """The image as a URL that carries it."""
    return f"data:image/png;base64,{base64.b64encode(to_png(image)).decode()}"


def _opened(source: Any, where: str, folder: Path | None) -> Any:
    from PIL import Image

    if isinstance(source, list | tuple) and source:
        source = source[0]
    if isinstance(source, Mapping):
        held = source.get("bytes")
        source = held if held is not None else source.get("path")
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, str | Path) and str(source):
        return _decoder(_read(Path(source), where, folder), f"{where}: {source}")
    if isinstance(source, bytes):
        return _decoder(source, where)
    raise DataError(
        f"{where}: an image is a path, bytes, a PIL image or a mapping with bytes or path, "
        f"got {type(source).__name__} {str(source)[:60]!r}"
    )


def _read(path: Path, where: str, folder: Path | None) -> bytes:
    path = path if path.is_absolute() or folder is None else folder / path
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{where}: no image at {str(path)!r}: {error.strerror}") from error


def _decoder(content: bytes, where: str) -> Any:
    """Pillow's lazy image of a file: its header is read, no pixel yet."""
    from PIL import Image

    if not content:
        raise DataError(f"{where}: the image file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", Image.DecompressionBombWarning
            )  # _check_size is stricter
            return Image.open(io.BytesIO(content))
    except Image.DecompressionBombError as error:
        raise DataError(f"{where}: {_said(error)}; at most {MOST_PIXELS:,} are taken") from error
    except Exception as error:
        raise DataError(f"{where}: no image that Pillow knows: {_said(error)}") from error


def _check_size(image: Any, where: str) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise DataError(f"{where}: the image has no pixels ({width} x {height})")
    if width * height > MOST_PIXELS:
        raise DataError(
            f"{where}: the image has {width} x {height} pixels, more than {MOST_PIXELS:,}; "
            "a small file of that size is a decompression bomb, a real one should be scaled down"
        )


def _rgb(image: Any, where: str) -> Any:
    from PIL import Image, ImageOps

    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode in _DEEP:
        image = _eight_bits(image, where)
    elif image.mode == "F":
        raise DataError(f"{where}: pixels are floats (mode F), of which no range is known")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    plain = image.convert("RGB")
    plain = plain.copy() if plain is image else plain
    plain.info = {}  # what the file said beside its pixels is no part of what is shown
    return plain


def _eight_bits(image: Any, where: str) -> Any:
    """The upper half of 16 bits. NumPy, because Pillow clips at 255 instead."""
    import numpy as np
    from PIL import Image

    values_HW = np.asarray(image).astype(np.int64)
    if values_HW.min() < 0 or values_HW.max() > 0xFFFF:
        raise DataError(
            f"{where}: grey values from {values_HW.min()} to {values_HW.max()} "
            "do not fit into 16 bits"
        )
    return Image.fromarray((values_HW >> 8).astype(np.uint8))


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
