"""Two small street worlds to adapt between, for use without any data.

Both draw their scenes from the same distribution, as output-level adaptation assumes; they differ
in palette, texture, light and noise. ``game`` looks rendered, ``video`` filmed.
"""
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, Tuple

import cv2
import numpy as np

SIZE = (129, 257)  # a multiple of 16 plus one, see the configs

# Cityscapes' labelIds
ROAD, SIDEWALK, BUILDING, POLE, SIGN, VEGETATION, SKY, CAR = 7, 8, 11, 17, 20, 21, 23, 26

Colour = Tuple[int, int, int]  # BGR


@dataclass(frozen=True)
class Look:
    """How a world looks.

    Attributes:
        palette (dict[int, Colour]): Base colour of each labelId.
        variety (float): Standard deviation of an object's colour, in grey levels.
        texture (float): Standard deviation of the pattern on surfaces, in grey levels.
        light (float): How much darker than the brightest corner the darkest one is, 0 to 1.
        haze (float): How much of the horizon's colour is the sky's, 0 to 1.
        blur (float): Standard deviation of the lens, in pixels.
        noise (float): Standard deviation of the sensor, in grey levels.
    """
    palette: Dict[int, Colour]
    variety: float
    texture: float
    light: float
    haze: float
    blur: float
    noise: float


LOOKS = {
    'game': Look(
        palette={ROAD: (95, 90, 90), SIDEWALK: (150, 165, 185), BUILDING: (70, 105, 165),
                 POLE: (60, 60, 60), SIGN: (40, 40, 225), VEGETATION: (40, 150, 60),
                 SKY: (235, 170, 95), CAR: (170, 60, 50)},
        variety=24, texture=8, light=0.15, haze=0, blur=0, noise=2),
    'video': Look(
        palette={ROAD: (112, 106, 103), SIDEWALK: (132, 140, 150), BUILDING: (95, 118, 148),
                 POLE: (80, 78, 76), SIGN: (75, 75, 150), VEGETATION: (62, 112, 76),
                 SKY: (222, 200, 172), CAR: (118, 75, 72)},
        variety=26, texture=12, light=0.4, haze=0.35, blur=0.7, noise=6),
}


def draw_scene(rng: np.random.Generator, look: Look,
               size: Tuple[int, int] = SIZE) -> Tuple[np.ndarray, np.ndarray]:
    """Draw one scene.

    Args:
        rng (np.random.Generator): Where the scene comes from: the layout is drawn before anything
            of the look, so equal generators give equal labels in both worlds.
        look (Look): The world.
        size (tuple[int, int]): Height and width in pixels.

    Returns:
        tuple: The image, uint8 (H, W, 3) in BGR, and its labelIds, uint8 (H, W).
    """
    label, objects, depth = _layout(rng, size)
    return _paint(rng, look, label, objects, depth), label


def _layout(rng: np.random.Generator,
            size: Tuple[int, int]) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """labelIds, object numbers and nearness (0 far, 1 near) of a street in perspective."""
    height, width = size
    label = np.full(size, SKY, np.uint8)
    objects = np.zeros(size, np.int32)
    horizon = round(height * rng.uniform(0.40, 0.50))
    vanish = width * rng.uniform(0.40, 0.60)
    rows = (np.arange(height, dtype=np.float32) - horizon) / (height - horizon)
    depth = np.repeat(rows.clip(0, 1)[:, None], width, axis=1)
    count = 0

    def draw(shape: str, label_id: int, *args) -> None:
        nonlocal count
        count += 1
        fill = {} if shape == 'fillPoly' else dict(thickness=cv2.FILLED)
        getattr(cv2, shape)(label, *args, label_id, **fill)
        getattr(cv2, shape)(objects, *args, count, **fill)

    def points(*xy) -> list:
        return [np.array(xy, np.float32).round().astype(np.int32)]

    # The ground: sidewalks from border to border, the road over them.
    draw('rectangle', SIDEWALK, (0, horizon), (width, height))
    left, right = width * rng.uniform(-0.15, 0.15), width * rng.uniform(0.85, 1.15)
    draw('fillPoly', ROAD,
         points((vanish - 2, horizon), (vanish + 2, horizon), (right, height), (left, height)))

    # Rows of houses and trees that grow towards the borders of the image.
    for side, border in ((-1, left), (1, right)):
        x = vanish + side * rng.uniform(4, 12)
        while 0 <= x < width:
            near = abs(x - vanish) / (width / 2)
            step = max(5, width * rng.uniform(0.06, 0.14) * (0.3 + near))
            foot = horizon + 0.22 * near * (height - horizon)
            if rng.random() < 0.68:
                top = horizon - height * rng.uniform(0.12, 0.25) * (0.4 + 1.3 * near)
                draw('rectangle', BUILDING, (round(x), round(top)),
                     (round(x + side * step), round(foot)))
            else:
                radius = max(3, round(step * rng.uniform(0.5, 0.8)))
                middle = round(x + side * step / 2)
                draw('rectangle', VEGETATION, (middle - 1, round(foot) - radius),
                     (middle + 1, round(foot)))
                draw('ellipse', VEGETATION, (middle, round(foot - 1.6 * radius)),
                     (radius, round(radius * rng.uniform(0.9, 1.4))), 0, 0, 360)
            x += side * step

        # Poles beside the road, some with a sign.
        for _ in range(rng.integers(1, 4)):
            near = rng.uniform(0.12, 0.75)
            x = round(vanish + (border - vanish) * near + side * 5 * near)
            foot = round(horizon + near * (height - horizon))
            top = round(foot - height * (0.12 + 0.55 * near))
            thick = max(1, round(4 * near))
            draw('rectangle', POLE, (x, top), (x + thick - 1, foot))
            if rng.random() < 0.7:
                half = max(2, round(11 * near))
                draw('rectangle', SIGN, (x - half, top), (x + half, top + round(1.6 * half)))

    # Cars, the far ones first.
    for near in sorted(rng.uniform(0.12, 0.8, rng.integers(1, 5))):
        foot = horizon + near * (height - horizon)
        lane = rng.uniform(0.15, 0.85)
        x = vanish + near * ((1 - lane) * (left - vanish) + lane * (right - vanish))
        half, tall = max(3, width * 0.11 * near), max(4, height * 0.2 * near)
        draw('rectangle', CAR, (round(x - half), round(foot - 0.6 * tall)),
             (round(x + half), round(foot)))
        draw('rectangle', CAR, (round(x - 0.7 * half), round(foot - tall)),
             (round(x + 0.7 * half), round(foot - 0.6 * tall)))
    return label, objects, depth


def _paint(rng: np.random.Generator, look: Look, label: np.ndarray, objects: np.ndarray,
           depth: np.ndarray) -> np.ndarray:
    height, width = label.shape
    palette = np.zeros((256, 3), np.float32)
    for label_id, colour in look.palette.items():
        palette[label_id] = colour
    number = objects.max() + 1
    shades = rng.normal(0, look.variety, (number, 1)) + rng.normal(0, look.variety / 3, (number, 3))
    image = palette[label] + shades.astype(np.float32)[objects]

    # Windows on the houses, a dashed line on the road: part of the surface, not classes.
    y, x = np.mgrid[:height, :width]
    windows = (label == BUILDING) & ((y + 3 * objects) % 9 > 4) & ((x + 5 * objects) % 7 > 3)
    image[windows] *= 0.6
    road = label == ROAD
    middle = np.array([np.median(np.flatnonzero(row)) if row.any() else -9
                       for row in road])
    dashes = (np.abs(x - middle[:, None]) < 0.5 + 3 * depth) & (np.sin(24 * np.sqrt(depth)) > 0)
    image[dashes & road] += 70

    # Patterns of three sizes.
    below_sky = (label != SKY)[..., None]
    for cell in (2, 6, 18):
        pattern = rng.normal(0, look.texture, (height // cell + 2, width // cell + 2))
        image += cv2.resize(pattern.astype(np.float32), (width, height),
                            interpolation=cv2.INTER_CUBIC)[..., None] * below_sky

    # Haze towards the horizon, light from one side, the lens, the sensor.
    far = np.exp(-6 * depth)[..., None] * below_sky * look.haze
    image = image * (1 - far) + palette[SKY] * far
    angle = rng.uniform(0, 2 * np.pi)
    slope = (np.cos(angle) * x / width + np.sin(angle) * y / height).astype(np.float32)
    slope = (slope - slope.min()) / (slope.max() - slope.min())
    image *= (1 - look.light * slope * rng.uniform(0.5, 1))[..., None]
    if look.blur:
        image = cv2.GaussianBlur(image, (0, 0), look.blur)
    image += rng.normal(0, look.noise, image.shape)
    return image.clip(0, 255).astype(np.uint8)


def draw_worlds(root: Path, source: int = 300, target: int = 300, val: int = 60,
                seed: int = 0) -> Iterator[Path]:
    """Draw both worlds to disk: ``game`` as GTA5 is unpacked, ``video`` as Cityscapes is.

    Args:
        root (Path): Gets the folders ``game`` and ``video``.
        source (int): Images of ``game``.
        target (int): Images of ``video`` for training.
        val (int): Images of ``video`` for validation.
        seed (int): Equal seeds draw equal files, whatever the numbers of images.

    Yields:
        Path: Each image, once it and its label are written.
    """
    root = Path(root)
    parts = [('game', 0, source, 'images/{0:05d}.png', 'labels/{0:05d}.png')]
    for part, (split, number) in enumerate((('train', target), ('val', val)), start=1):
        name = f'{split}/demo/demo_{{0:06d}}_000000'
        parts.append(('video', part, number, f'leftImg8bit/{name}_leftImg8bit.png',
                      f'gtFine/{name}_gtFine_labelIds.png'))
    for world, part, number, image_name, label_name in parts:
        for index in range(1, number + 1):
            rng = np.random.default_rng([seed, part, index])
            for name, array in zip((image_name, label_name), draw_scene(rng, LOOKS[world])):
                path = root / world / name.format(index)
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), array)
            yield root / world / image_name.format(index)
