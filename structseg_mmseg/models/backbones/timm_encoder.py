from contextlib import contextmanager
from fractions import Fraction
from typing import Any, Iterator, List, Optional, Sequence, Tuple, Union

import torch
from mmengine.dist import is_main_process
from mmengine.model import BaseModule
from mmengine.runner.checkpoint import CheckpointLoader
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from torch import Tensor, nn

from structseg_mmseg.bounds import Weight
from structseg_mmseg.errors import InputError


@MODELS.register_module()
class TIMMEncoder(BaseModule):
    """An encoder of timm for foundation models: DINOv2, DINOv3 and others, ViT or ConvNeXt.

    mmseg's ``TIMMBackbone`` drops a ViT's final norm, on which its pretraining ends, and loads
    weights whenever it is built. Here the norm stays, and only ``init_weights`` loads, on the main
    process, from which mmengine sends them to all: checkpoints that are tested, teachers and frozen
    copies need no weights from elsewhere.

    Args:
        model_name (str): As in timm, such as ``vit_base_patch14_dinov2.lvd142m``.
        out_indices (Sequence[int]): Of a ViT's blocks, or a ConvNeXt's stages, whose features to
            return; negative ones count from the last. Blocks behind the last one are left out.
        pretrained (bool or str): Whether to start from the weights that timm downloads; or a file
            of weights, timm's or the authors', or its URL.
        scale (float): Images are resized by it, bilinearly, and down to a multiple of a ViT's
            patches; 1.1 in VFM-UDA, which makes 1120 of 1024 pixels.
        mask_token (bool): Whether a ViT can hide tokens: see :meth:`hiding`. DINOv2's own file has
            the token that it was trained with; timm's copies have not, and it starts from 0.
        with_cp (bool): Whether to recompute activations in the backward pass, not to keep them.
        options (dict): Other arguments of :func:`timm.create_model`, such as ``drop_path_rate``.
            DINOv2 needs ``dynamic_img_size=True`` for images of any size; ``patch_size=16``
            resamples its kernels.
        init_cfg (dict, optional): As in :class:`mmengine.model.BaseModule`.
    """

    def __init__(self,
                 model_name: str,
                 out_indices: Sequence[int] = (-1, ),
                 pretrained: Union[bool, str] = False,
                 scale: Weight = 1.,
                 mask_token: bool = False,
                 with_cp: bool = False,
                 options: dict = {},
                 init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg)
        self.pretrained = pretrained
        self.model_name = model_name
        self.out_indices = list(out_indices)
        self.options = options
        # Exact, and integers to exporters.
        self.scale = Fraction(scale).limit_denominator(1000)
        self.model = self._create()
        self.kept: List[int] = self.model.prune_intermediate_layers(
            self.out_indices, prune_norm=False, prune_head=True)
        self.model.set_grad_checkpointing(with_cp)
        embed = getattr(self.model, 'patch_embed', None)
        self.patch_size: Optional[Tuple[int, int]] = embed and embed.patch_size
        self.mask_token = None
        self._hidden: Optional[Tensor] = None
        if mask_token:
            if embed is None:
                raise InputError(f'backbone.model_name {model_name} has no tokens to hide: remove '
                                 'backbone.mask_token')
            self.mask_token = nn.Parameter(torch.zeros(1, self.model.embed_dim))
            embed.register_forward_hook(self._hide)

    def _create(self, **kwargs) -> Any:
        try:
            import timm
        except ImportError as error:
            raise InputError('TIMMEncoder needs the packages of the extra `vfm`: '
                             'pip install "structseg_mmseg[vfm]", and a torchvision that fits '
                             'torch (docs/install.md)') from error
        return timm.create_model(self.model_name, num_classes=0, **self.options, **kwargs)

    def init_weights(self) -> None:
        """Load the pretrained weights, every one of them."""
        super().init_weights()
        if not self.pretrained or not is_main_process():
            return
        overlay, token = {}, None
        if isinstance(self.pretrained, str):
            state = _read(self.pretrained)
            token = state.get('mask_token')
            overlay = dict(pretrained_cfg_overlay=dict(state_dict=dict(state)))
        try:  # timm turns the authors' names into its own, and resamples what has another size
            whole = self._create(pretrained=True, **overlay)
        except (KeyError, RuntimeError) as error:
            if not overlay:
                raise
            text = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(f'{self.pretrained} has no weights of {self.model_name} ({text}): '
                             'give its file, or another backbone.model_name') from error
        whole.prune_intermediate_layers(self.out_indices, prune_norm=False, prune_head=True)
        self.model.load_state_dict(whole.state_dict())
        if token is not None and self.mask_token is not None:
            self.mask_token.data.copy_(token.view_as(self.mask_token))

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        """Features of images (N, 3, H, W), one tensor for each of ``out_indices``.

        Those of a ViT lie over the whole image, border to border: (N, C, *grid((H, W))).
        """
        if self.patch_size is not None:
            size = [cells * patch for cells, patch in zip(self.grid(x.shape[-2:]), self.patch_size)]
            x = resize(x, size, mode='bilinear', align_corners=False)
        return tuple(self.model.forward_intermediates(
            x, indices=self.kept, norm=True, intermediates_only=True))

    def grid(self, size: Sequence[int]) -> Tuple[int, int]:
        """Rows and columns of a ViT's tokens for images of a size."""
        assert self.patch_size is not None
        up, down = self.scale.numerator, self.scale.denominator
        rows, columns = (side * up // (down * patch) for side, patch in zip(size, self.patch_size))
        return rows, columns

    @contextmanager
    def hiding(self, tokens: Tensor) -> Iterator[None]:
        """Replace tokens, before their positions are added, by the mask token.

        Args:
            tokens (Tensor): Which, bool (N, *grid).
        """
        if self.mask_token is None:
            raise InputError('tokens of the encoder cannot be hidden: set backbone.mask_token=True')
        self._hidden = tokens
        try:
            yield
        finally:
            self._hidden = None

    def _hide(self, embed: nn.Module, args: Any, tokens: Tensor) -> Tensor:
        if self._hidden is None:
            return tokens
        assert self.mask_token is not None
        hidden = self._hidden.view(*tokens.shape[:-1], 1)  # (N, h, w, 1), or (N, h w, 1)
        return torch.where(hidden, self.mask_token.to(tokens), tokens)


def _read(path: str) -> dict:
    """The state dict in a file of weights."""
    if path.endswith('.safetensors'):
        from safetensors.torch import load_file  # comes with timm
        return load_file(path)
    if path.startswith('https://'):  # mmengine's has all ranks wait for each other
        return torch.hub.load_state_dict_from_url(path, map_location='cpu', weights_only=True)
    checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    return checkpoint.get('state_dict', checkpoint.get('model', checkpoint))
