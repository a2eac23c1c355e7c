"""Colour jitter and blur of images in [0, 1], as self-training augments mixed images."""
from dataclasses import replace
from typing import List, Sequence, Tuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from structseg_mmseg.models.data_preprocessor import denormalize, normalize

from .batch import Batch


def strongly_augmented(batch: Batch, preprocessor: BaseDataPreprocessor, purpose: str,
                       strength: float) -> Batch:
    """Colour jitter with probability 0.8, and blur of 0.15 to 1.15 pixels with 0.5 (DAFormer).

    Args:
        batch (Batch): Its normalised images.
        preprocessor (BaseDataPreprocessor): Which has normalised them.
        purpose (str): What names the draws: see :meth:`Batch.generators`.
        strength (float): Of all four shifts of the jitter.
    """
    images = []
    for image, generator in zip(_unit(batch, preprocessor), batch.generators(purpose)):
        apply_jitter, apply_blur, sigma = torch.rand(3, generator=generator).tolist()
        jitter = draw_jitter(generator, [strength] * 4)
        if apply_jitter < 0.8:
            image = colour_jitter(image, *jitter)
        if apply_blur < 0.5:
            image = blur(image, 0.15 + sigma)
        images.append(image)
    return _with_images(batch, images, preprocessor)


def weakly_augmented(batch: Batch, preprocessor: BaseDataPreprocessor) -> Batch:
    """Jitter with probability 0.9, by 32/255, 0.5, 0.5 and 0.05 (VFM-UDA)."""
    images = []
    for image, generator in zip(_unit(batch, preprocessor), batch.generators('weak')):
        apply = torch.rand(1, generator=generator).item() < 0.9
        jitter = draw_jitter(generator, (32 / 255, 0.5, 0.5, 0.05))
        images.append(colour_jitter(image, *jitter) if apply else image)
    return _with_images(batch, images, preprocessor)


def _unit(batch: Batch, preprocessor: BaseDataPreprocessor) -> Tensor:
    """The images in [0, 1]."""
    return denormalize(preprocessor, batch.inputs) / 255


def _with_images(batch: Batch, images: List[Tensor], preprocessor: BaseDataPreprocessor) -> Batch:
    return replace(batch, inputs=normalize(preprocessor, torch.stack(images) * 255))


def draw_jitter(generator: torch.Generator, strengths: Sequence[float]) -> Tuple[list, list]:
    """Four shifts, each uniform within its strength on both sides of 0, and their order."""
    numbers = torch.rand(8, generator=generator).tolist()
    shifts = [strength * (2 * number - 1) for strength, number in zip(strengths, numbers)]
    return shifts, sorted(range(4), key=numbers[4:].__getitem__)


def colour_jitter(image: Tensor, shifts: Sequence[float], order: Sequence[int]) -> Tensor:
    """Brightness, contrast, saturation and hue of an image (3, H, W) in [0, 1], in some order.

    As in the library that DACS and DAFormer use (kornia 0.5), brightness is added to, and contrast
    multiplies without regard to the mean; both are clamped to [0, 1].

    Args:
        image (Tensor): RGB or BGR, which have hue turn opposite ways.
        shifts (Sequence[float]): What is added; contrast and saturation are multiplied by 1 plus
            theirs, and hue is in turns of the colour wheel.
        order (Sequence[int]): The places of these four as they are applied.
    """
    changes = (lambda x, shift: (x + shift).clamp(0, 1), lambda x, shift: (x * (1 + shift)).clamp(
        0, 1), lambda x, shift: saturate(x, 1 + shift), turn_hue)
    for place in order:
        image = changes[place](image, shifts[place])
    return image


def saturate(image: Tensor, factor: float) -> Tensor:
    """Multiply HSV's saturation, at most to 1, of an image (3, H, W)."""
    value = image.amax(dim=0)
    chroma = value - image.amin(dim=0)
    # Value and hue stay; a grey pixel has no chroma to be multiplied.
    return value - (value - image) * (value / chroma.clamp(min=1e-12)).clamp(max=factor)


def turn_hue(image: Tensor, turns: float) -> Tensor:
    """Turn HSV's hue of an image (3, H, W)."""
    value, largest = image.max(dim=0)
    chroma = value - image.amin(dim=0)
    red, green, blue = image
    # Which of the wheel's six sectors a pixel lies in, and where: 0 is red, 2 green, 4 blue.
    sector = torch.where(largest == 0, green - blue, torch.where(
        largest == 1, blue - red, red - green)) / chroma.clamp(min=1e-12) + 2 * largest
    start = torch.tensor([5., 3., 1.]).to(image).view(3, 1, 1)
    distance = (start + sector + 6 * turns).remainder(6)
    return value - chroma * torch.minimum(distance, 4 - distance).clamp(0, 1)


def blur(image: Tensor, sigma: float, radius: int = 5) -> Tensor:
    """Gaussian blur of an image (3, H, W), mirrored at its borders.

    Args:
        image (Tensor): The image.
        sigma (float): In pixels.
        radius (int): Where the kernel ends; at 5 pixels and sigma 1.15 it has fallen to 1e-4.
    """
    places = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.softmax(-places.square() / (2 * sigma**2), dim=0)
    x = F.pad(image, [radius] * 4, mode='reflect')
    for dim in (1, 2):  # not by a convolution, which autocast would have in half precision
        x = (x.unfold(dim, len(kernel), 1) * kernel).sum(dim=-1)
    return x
