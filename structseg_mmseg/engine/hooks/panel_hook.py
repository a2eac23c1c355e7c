from typing import Dict, Optional

import cv2
import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor

from structseg_mmseg.models.data_preprocessor import takes_rgb
from structseg_mmseg.models.adaptation.entropy import self_information
from structseg_mmseg.models.wrappers import unwrapped

TITLE = 14  # pixels


@HOOKS.register_module()
class PanelHook(Hook):
    """Draws what an iteration saw, a row for each pass, while a run trains.

    The first image of the first rank's batch, the prediction, the truth (of the source) or the
    label that a term has given it, the entropy of the prediction (0 to 1), and what each term has
    to show, such as the reconstruction or the discriminator's map (blue for target, red for
    source). All of it is taken from the passes that the iteration makes; they come out as they
    would without it. The pictures go to the visualizer's backends: ``vis_data/vis_image`` of the
    work dir, TensorBoard, ...

    Args:
        interval (int): Iterations between two drawings.
    """

    def __init__(self, interval: int = 500) -> None:
        self.interval = interval

    def before_train_iter(self, runner: Runner, batch_idx: int,
                          data_batch: Optional[dict] = None) -> None:
        """Ask the iteration for pictures, every ``interval``."""
        if data_batch and 'source' in data_batch and is_main_process() and (
                self.every_n_train_iters(runner, self.interval)):
            data_batch.setdefault('pictures', {})

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None,
                         outputs: Optional[dict] = None) -> None:
        """Draw them."""
        pictures = (data_batch or {}).get('pictures')
        # Another hook may have asked for those of other iterations.
        if not pictures or not self.every_n_train_iters(runner, self.interval):
            return
        palette = np.array(runner.train_dataloader.dataset.metainfo['palette'], np.uint8)
        rgb = takes_rgb(unwrapped(runner.model).data_preprocessor)
        for name, of_pass in pictures.items():
            if 'image' in of_pass:
                runner.visualizer.add_image(
                    name, panel(of_pass, palette, rgb), step=runner.iter + 1)


def panel(pictures: Dict[str, Tensor], palette: np.ndarray, rgb: bool) -> np.ndarray:
    """The pictures of a pass side by side, titled.

    Args:
        pictures (dict[str, Tensor]): ``image`` (3, H, W) in [0, 1], ``logits`` (C, H, W), perhaps
            labels (H, W) such as ``truth``, and others in [0, 1], (3, H, W) or, as maps, (1, h, w).
        palette (np.ndarray): Colours of the classes, uint8 (C, 3).
        rgb (bool): Whether channels are RGB, or BGR.

    Returns:
        np.ndarray: RGB, uint8.
    """
    pictures = {name: picture.cpu() for name, picture in pictures.items()}
    softmax = pictures.pop('logits').float().softmax(dim=0)
    tiles = dict(image=_picture(pictures.pop('image'), rgb),
                 prediction=palette[softmax.argmax(dim=0).numpy()])
    coloured = np.append(palette, np.zeros((256 - len(palette), 3), np.uint8), axis=0)
    for name in [name for name, picture in pictures.items() if not picture.is_floating_point()]:
        tiles[name] = coloured[pictures.pop(name).numpy()]
    pictures['entropy'] = self_information(softmax[None]).sum(dim=1)
    tiles.update({name: _picture(picture, rgb) for name, picture in pictures.items()})
    height, width = tiles['image'].shape[:2]
    row = []
    for name, tile in tiles.items():
        if tile.shape[:2] != (height, width):
            tile = cv2.resize(tile, (width, height), interpolation=cv2.INTER_NEAREST)
        title = np.full((TITLE, width, 3), 255, np.uint8)
        cv2.putText(title, name, (2, TITLE - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0))
        row.append(np.concatenate([title, tile]))
    return np.concatenate(row, axis=1)


def _picture(picture: Tensor, rgb: bool) -> np.ndarray:
    pixels = (picture * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    if pixels.shape[2] == 1:  # a map
        return cv2.applyColorMap(pixels, cv2.COLORMAP_JET)[..., ::-1]
    return pixels if rgb else pixels[..., ::-1]
