from .aspp_discriminator import ASPPDiscriminator
from .fc_discriminator import FCDiscriminator
from .pixel_discriminator import PixelDiscriminator

__all__ = ['ASPPDiscriminator', 'FCDiscriminator', 'PixelDiscriminator']
