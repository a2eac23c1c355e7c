"""A trained segmentor for plain mmseg, for torch.export and for ONNX."""
from pathlib import Path
from typing import Callable, Dict, Iterable, Tuple
from unittest.mock import patch

import torch
from mmengine.config import Config
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.models.segmentors import EncoderDecoder
from mmseg.models.utils import resize
from mmseg.registry import MODELS, TRANSFORMS
from torch import Tensor, nn

from structseg_mmseg.datasets import MapLabelIds
from structseg_mmseg.engine.checkpoint import check_fit
from structseg_mmseg.errors import InputError
from structseg_mmseg.models.data_preprocessor import takes_rgb

TOLERANCE = 1e-4  # of the largest logit
DIMS = {0: 'batch', 2: 'height', 3: 'width'}


class Logits(nn.Module):
    """A segmentor as a function of raw images.

    Args:
        segmentor (EncoderDecoder): In eval mode, for whole images.
    """

    def __init__(self, segmentor: EncoderDecoder) -> None:
        super().__init__()
        self.segmentor = segmentor

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, classes, H, W) of images (N, 3, H, W), RGB from 0 to 255."""
        # The preprocessor's own forward takes lists of images, which fixes their number.
        preprocessor = self.segmentor.data_preprocessor
        x = image if takes_rgb(preprocessor) else image.flip(1)  # it expects BGR
        if preprocessor._enable_normalize:
            x = (x - preprocessor.mean) / preprocessor.std
        return self.segmentor.encode_decode(x, [dict(img_shape=image.shape[2:])])


def plain_config(cfg: Config) -> Config:
    """Keep what mmseg needs to build the network and to run it on images."""
    model = {key: cfg.model[key] for key in (
        'data_preprocessor', 'backbone', 'neck', 'decode_head') if cfg.model.get(key) is not None}
    test_cfg = dict(cfg.model.get('test_cfg') or dict(mode='whole'))
    for key in ('statistics', 'model'):
        test_cfg.pop(key, None)
    pipeline = [transform for transform in cfg.test_dataloader.dataset.pipeline
                if not issubclass(TRANSFORMS.get(transform['type']),
                                  (LoadAnnotations, MapLabelIds))]
    return Config(dict(
        default_scope=cfg.get('default_scope', 'mmseg'),
        model=dict(type='EncoderDecoder', **model, test_cfg=test_cfg),
        test_pipeline=pipeline,
        test_dataloader=dict(dataset=dict(pipeline=pipeline)),  # MMSegInferencer looks here
        visualizer=dict(type='SegLocalVisualizer')))


def inference_state(cfg: Config, checkpoint: dict, name: str, keys: Iterable[str]
                    ) -> Dict[str, Tensor]:
    """The state dict of an ``EncoderDecoder`` with these keys that infers like the config's model.

    Raises:
        InputError: If the checkpoint does not fit the config's model.
    """
    model = MODELS.build(cfg.model)
    check_fit(model, checkpoint, name)
    state = checkpoint.get('state_dict', checkpoint)
    model.load_state_dict({key.removeprefix('module.'): value for key, value in state.items()},
                          strict=False)  # what only training uses may be absent
    test_cfg = cfg.model.get('test_cfg') or {}
    if test_cfg.get('model') == 'teacher':
        state = model.teacher.state_dict()
    elif test_cfg.get('statistics') != 'source':
        state = model.state_dict()
    elif model.source_statistics is None:
        raise InputError("model.test_cfg.statistics='source' needs statistics of the source: set "
                         "model.batch_statistics='per_domain' for training")
    else:
        with model.source_statistics.in_use():
            state = model.state_dict()
    return {key: state[key] for key in keys}


def export(model: EncoderDecoder, out_dir: Path, size: Tuple[int, int]) -> None:
    """Write ``model.pt2`` and ``model.onnx``.

    Args:
        model (EncoderDecoder): In eval mode; its backbone may be changed.
        out_dir (Path): The folder.
        size (tuple[int]): Height and width of the image to trace the network with.

    Raises:
        InputError: If one of the two cannot be written, or gives other logits.
    """
    if model.test_cfg.mode != 'whole' or model.data_preprocessor.test_cfg:
        raise InputError('model.pt2 and model.onnx are left out: windows (model.test_cfg.mode) and '
                         'padding (model.data_preprocessor.test_cfg) in testing are not exported, '
                         "so set mode='whole' and no padding")
    network = Logits(model)
    height, width = size
    image = 255 * torch.rand(1, 3, height + 11, width - 7)
    with torch.no_grad():
        expected = network(image)
    if hasattr(model.backbone, 'fix_padding'):
        model.backbone.fix_padding()
    print('tracing the network', flush=True)
    try:
        program = trace(network, 255 * torch.rand(2, 3, height, width))
    except Exception as error:
        raise InputError('model.pt2 and model.onnx are left out: torch.export cannot follow the '
                         f'network at all sizes ({first_line(error)})') from error
    problems = []
    for path, write in ((out_dir / 'model.pt2', write_pt2), (out_dir / 'model.onnx', write_onnx)):
        print(f'writing {path}, and running it', flush=True)
        try:
            logits = write(program, path)(image)
            difference = (logits - expected).abs().max() / expected.abs().max()
            if not difference <= TOLERANCE:
                raise InputError(f'its logits differ by {difference:.0e} of the largest')
        except Exception as error:  # exporters and runtimes have no common one
            path.unlink(missing_ok=True)
            problems.append(f'{path.name} is left out: {first_line(error)}')
    if problems:
        raise InputError('; '.join(problems))


def trace(network: Logits, image: Tensor) -> torch.export.ExportedProgram:
    """Trace the network for any number and size of images."""
    # The default warning of mmseg's resize would turn sizes into constants.
    silent = patch.object(resize, '__defaults__', (*resize.__defaults__[:-1], False))
    with torch.no_grad(), silent:
        program = torch.export.export(
            network, (image, ), dynamic_shapes=(dict.fromkeys(DIMS, torch.export.Dim.DYNAMIC), ),
            prefer_deferred_runtime_asserts_over_guards=True)
    # Assertions exclude what torch cannot prove, such as sizes for pooling that rounds up, and what
    # it specialises on, such as a single image. The files are tested on both.
    for node in program.graph.find_nodes(op='call_function',
                                         target=torch.ops.aten._assert_scalar.default):
        program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()
    return program


def write_pt2(program: torch.export.ExportedProgram, path: Path) -> Callable[[Tensor], Tensor]:
    """Write the program, and return it as loaded from the file."""
    torch.export.save(program, path)
    return torch.export.load(path).module()


def write_onnx(program: torch.export.ExportedProgram, path: Path) -> Callable[[Tensor], Tensor]:
    """Write the program as ONNX, and return it as loaded from the file."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401, what torch exports with
    except ImportError as error:
        raise InputError('it needs the packages of the extra `export`: '
                         'pip install "structseg_mmseg[export]"') from error
    torch.onnx.export(program, f=path, input_names=['image'], output_names=['logits'],
                      dynamic_shapes=(DIMS, ), dynamo=True, external_data=False, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    return lambda image: torch.from_numpy(session.run(None, dict(image=image.numpy()))[0])


def first_line(error: Exception) -> str:
    """The first line of an exporter's message, which can be pages long."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
