"""Encoded images -> tensors of one format."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch

from paramdiff.errors import TaskError
from paramdiff.tasks.dataset_rows import DatasetLocation, Reading, read_rows
from paramdiff.tasks.image_decoding import EncodedImages, Format, natural_format
from paramdiff.tasks.images import Pixels
from paramdiff.tasks.splits import Split, open_splits
from tiny_images import pictures, png, write_folder, write_parquet, write_shards


def split(folder: Path) -> Split:
    place = DatasetLocation("trees", None, str(folder))
    return open_splits(read_rows(place, Reading(), folder.parent / "cache"), place, Reading())[0]


def encoded(image, kind: str = "PNG", **options) -> dict:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return {"bytes": buffer.getvalue(), "path": None}


def picture(*shape: int) -> np.ndarray:
    return pictures(1, shape)[0]


def test_pixels_of_the_right_size_are_not_changed():
    from PIL import Image

    for shape, channels in (((6, 6), 1), ((6, 6, 3), 3)):
        image = picture(*shape)
        assert np.array_equal(Format(channels, 6).decode(encoded(Image.fromarray(image))), image)


def test_colour_becomes_grey_and_grey_becomes_colour():
    from PIL import Image

    grey, colour = picture(4, 4), picture(4, 4, 3)
    as_colour = Format(3, 4).decode(encoded(Image.fromarray(grey)))
    assert np.array_equal(as_colour, np.repeat(grey[:, :, None], 3, 2))
    luma = colour @ np.array([0.299, 0.587, 0.114])
    assert np.abs(Format(1, 4).decode(encoded(Image.fromarray(colour))) - luma).max() <= 1


def test_the_centre_of_a_long_image_is_kept_or_all_of_it_is_squashed():
    from PIL import Image

    image = np.zeros((8, 16), np.uint8)
    image[:, 4:12] = 200
    image = Image.fromarray(image)
    assert (Format(1, 8).decode(encoded(image)) == 200).all()
    squashed = Format(1, 8, squash=True).decode(encoded(image))
    assert squashed.shape == (8, 8) and squashed[0, 0] < 30 and squashed[4, 4] > 170
    upright = encoded(image.transpose(Image.Transpose.ROTATE_90))
    assert (Format(1, 8).decode(upright) == 200).all()


def test_resizing_averages_instead_of_picking_pixels():
    from PIL import Image

    board = (np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)
    small = Format(1, 8).decode(encoded(Image.fromarray(board)))
    assert np.abs(small.astype(int) - 127)[1:-1, 1:-1].max() <= 2


def test_a_large_jpeg_is_decoded_to_the_same_picture():
    from PIL import Image

    ramp = np.tile(np.linspace(0, 255, 256).astype(np.uint8), (256, 1))
    jpeg = encoded(Image.fromarray(ramp).convert("RGB"), "JPEG", quality=95)
    exact = encoded(Image.fromarray(ramp).convert("RGB"))
    difference = Format(3, 32).decode(jpeg).astype(int) - Format(3, 32).decode(exact)
    assert np.abs(difference).max() <= 3


def test_the_exif_tag_turns_an_image_upright():
    from PIL import Image

    image = Image.fromarray(picture(4, 4, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    turned = Format(3, 4).decode(encoded(image, exif=exif))
    assert np.array_equal(turned, np.rot90(np.asarray(image), -1))


def test_sixteen_bits_keep_their_upper_byte():
    from PIL import Image

    deep = np.array([[0, 255, 256], [4660, 32768, 65535], [1, 2, 3]], np.uint16)
    assert np.array_equal(Format(1, 3).decode(encoded(Image.fromarray(deep))), (deep >> 8).astype(np.uint8))


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "1", "CMYK"])
def test_every_mode_becomes_colour(mode: str):
    from PIL import Image

    image = Image.fromarray(picture(4, 4, 3)).convert(mode)
    kind = "TIFF" if mode == "CMYK" else "PNG"
    pixels = Format(3, 4).decode(encoded(image, kind))
    assert pixels.shape == (4, 4, 3) and pixels.dtype == np.uint8


def test_the_format_is_that_of_the_first_image_where_it_is_not_given(tmp_path: Path):
    colour, grey = split(write_folder(tmp_path / "a")), split(write_shards(tmp_path / "b", channels=1))
    assert natural_format(colour, None, None, False) == Format(3, 8)
    assert natural_format(colour, 1, None, True) == Format(1, 8, True)
    assert natural_format(grey, None, 5, False) == Format(1, 5)
    large = split(write_folder(tmp_path / "c", n=3, size=(300, 400)))
    assert natural_format(large, None, None, False) == Format(3, 224)


@pytest.mark.parametrize("threads", [1, 3])
def test_images_come_in_the_order_asked_for(tmp_path: Path, threads: int):
    images = EncodedImages(split(write_shards(tmp_path / "a", n=11)), Format(3, 8), threads)
    assert isinstance(images, Pixels) and images.shape == (11, 3, 8, 8)
    expected = torch.from_numpy(np.stack(pictures(11, (8, 8, 3)))).permute(0, 3, 1, 2)
    orders = [torch.tensor(order) for order in ([3, 1], [10], [0, 0, 5], [7], [2], [9, 8])]
    for order, found in zip(orders, images.read(orders), strict=True):
        assert torch.equal(found, expected[order]) and found.is_contiguous()


def test_reading_can_be_stopped(tmp_path: Path):
    images = EncodedImages(split(write_shards(tmp_path / "a")), Format(3, 8), threads=2)
    asked = []

    def orders():
        for i in range(6):
            asked.append(i)
            yield torch.tensor([i])

    reading = images.read(orders())
    next(reading)
    reading.close()
    assert len(asked) <= 3  # not all were decoded for the first


def test_a_damaged_image_is_named(tmp_path: Path):
    data = [png(image) for image in pictures(6, (8, 8, 3))]
    folder = write_shards(tmp_path / "a")
    for wrong, reason in (
        (data[4][: len(data[4]) // 2], "truncated"),
        (b"no image", "cannot identify"),
        (None, "none"),
    ):
        images = [*data[:4], wrong, data[5]]
        write_parquet(folder / "data/train-00000-of-00001.parquet", images, [0, 1, 2, 0, 1, 2])
        with pytest.raises(TaskError) as caught:
            list(EncodedImages(split(folder), Format(3, 8)).read([torch.tensor([5, 4])]))
        text = str(caught.value)
        assert (
            text.startswith("trees, split train: the image in row 4 cannot be decoded (") and reason in text
        )
        assert text.endswith("; repair or remove it")


def test_a_damaged_file_is_named_with_its_path(tmp_path: Path):
    folder = write_folder(tmp_path / "a")
    (folder / "train/ash/0.jpg").write_bytes(b"")
    with pytest.raises(TaskError) as caught:
        natural_format(split(folder), None, None, False)
    assert f"the image in row 0 ({folder}/train/ash/0.jpg) cannot be decoded" in str(caught.value)
