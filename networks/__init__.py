"""Network definitions; `net_factory` is the one way in."""

from networks.net_factory import net_factory

__all__ = ["net_factory"]
