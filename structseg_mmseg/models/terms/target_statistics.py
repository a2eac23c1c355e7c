from mmseg.registry import MODELS

from .term import Term


@MODELS.register_module()
class TargetStatistics(Term):
    """Target images update the running statistics of batch normalisation, without any loss.

    What a method gains must be compared with this, as every method with a target pass has it.
    """

    passes = ('target',)
    trains = False
