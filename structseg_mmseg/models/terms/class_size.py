import json
from typing import Dict, List

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor

from structseg_mmseg.bounds import Weight
from structseg_mmseg.errors import InputError
from structseg_mmseg.models.adaptation import View

from .term import Term


@MODELS.register_module()
class ClassSize(Term):
    r"""FCNs in the wild (Hoffman et al. 2016): a class is as large as in source images with it.

    Of the share of pixels that a class c has in a source image which contains it,
    :math:`\alpha_c` is the 10th percentile, :math:`\delta_c` the mean and :math:`\gamma_c` the 90th
    percentile. A target image with predictions p contains c if more than :math:`0.1 \alpha_c` of
    its pixels are predicted as c. Then its size should be

    .. math:: \delta_c \le \mathrm{mean}_i \, P_i(c) \le \gamma_c,

    the lower bound with slack. As in constrained networks (CCNN, Pathak et al. 2015), whose latent
    distribution this is, the loss is :math:`\mathrm{mean}_i KL(P_i \| p_i)` for the P that is
    nearest to p and satisfies the constraints; P is a constant, so the gradient on the logits is
    :math:`p - P` (over the number of pixels). It is multiplied by 0.1 for classes with
    :math:`\alpha_c > 0.1`, which fill much of an image anyway.

    Args:
        statistics (str): File of :math:`\alpha, \delta, \gamma`, written by
            ``tools/dataset_converters/count_class_sizes.py``. Training alone reads it.
        loss_weight (float): The paper adds the loss as it is.
        slack (float): Price of a share that the lower bounds lack, against mean KL. It is the most
            that the logarithm of a class's odds is raised by.
        **kwargs: As in :class:`Term`.
    """

    passes = ('target', )
    heads = ('decode_head', )
    iterations = 100  # of the solver; predictions that are sure of themselves need most

    def __init__(self, statistics: str, loss_weight: Weight = 1., slack: Weight = 2.,
                 **kwargs) -> None:
        super().__init__(**kwargs)
        self.statistics = statistics
        self.loss_weight = loss_weight
        self.slack = slack
        # (num_classes, 3): alpha, delta, gamma, until they are read constraining nothing.
        self.register_buffer(
            'sizes', torch.tensor([0., 0., 1.]).repeat(self.num_classes, 1), persistent=False)

    def init_weights(self) -> None:
        """Read the statistics: a run does this before it starts or resumes, inference never."""
        super().init_weights()
        self.sizes.copy_(torch.tensor(self._read()))

    def _read(self) -> List[List[float]]:
        remedy = 'write it by tools/dataset_converters/count_class_sizes.py'
        try:
            with open(self.statistics) as file:
                classes = json.load(file)
        except FileNotFoundError:
            raise InputError(
                f'there is no file {self.statistics} of class sizes: {remedy}') from None
        if len(classes) != self.num_classes:
            raise InputError(
                f'{self.statistics} has the sizes of {len(classes)} classes where decode_head has '
                f'{self.num_classes}: {remedy} from this config')
        # A class that no source image contains may have any size.
        return [[0., 0., 1.] if size is None else [size['lower'], size['mean'], size['upper']]
                for size in classes.values()]

    def loss(self, view: View) -> Dict[str, Tensor]:
        logits = view.logits()
        pace = torch.where(self.sizes[:, 0] > 0.1, 0.1, 1.).to(logits)[:, None, None]
        logits = pace * logits + (1 - pace) * logits.detach()
        log_p = logits.log_softmax(dim=1)
        with torch.no_grad():
            nearest = self.nearest(log_p)
        loss = F.kl_div(log_p, nearest, reduction='none', log_target=True).sum(dim=1).mean()
        return dict(loss_target=self.loss_weight * loss)

    def nearest(self, log_p: Tensor) -> Tensor:
        r"""log P, (N, C, H, W), of the nearest distribution to predictions log p of that shape.

        :math:`P_i(c) \propto p_i(c) e^{\mu_c}`, where :math:`\mu` maximises the concave dual

        .. math:: \sum_c \min(\delta_c \mu_c, \gamma_c \mu_c \text{ if } \mu_c < 0)
                  - \mathrm{mean}_i \log \sum_c p_i(c) e^{\mu_c}, \quad \mu_c \le slack.

        Plain ascent is slow for classes of few pixels. As :math:`\log x \le x - 1`, a step from
        shares s of P by :math:`\Delta` gains at least :math:`\sum_c b_c \Delta_c - s_c
        (e^{\Delta_c} - 1)` with the bound b; the step that maximises this in each class,
        :math:`\log(b_c / s_c)` as far as the sign of :math:`\mu_c` lasts, is taken.
        """
        alpha, delta, gamma = self.sizes.to(log_p).unbind(dim=1)
        predicted = F.one_hot(log_p.argmax(dim=1), self.num_classes).to(log_p).mean(dim=(1, 2))
        present = predicted > 0.1 * alpha
        dual = torch.zeros_like(predicted)
        for _ in range(self.iterations):
            share = (log_p + dual[..., None, None]).softmax(dim=1).mean(dim=(2, 3))
            free = dual - share.log()
            bounded = torch.clamp(torch.zeros_like(dual), free + delta.log(), free + gamma.log())
            dual = torch.where(present, bounded.clamp(max=self.slack), 0)
        return (log_p + dual[..., None, None]).log_softmax(dim=1)
