from .cycle_gan import CycleGAN
from .patch_discriminator import PatchDiscriminator
from .resnet_generator import ResNetGenerator

__all__ = ['CycleGAN', 'PatchDiscriminator', 'ResNetGenerator']
