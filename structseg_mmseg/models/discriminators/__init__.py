from .aspp_discriminator import ASPPDiscriminator

__all__ = ['ASPPDiscriminator']
