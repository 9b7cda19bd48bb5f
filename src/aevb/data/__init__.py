"""What models are fitted to: ready-made data sets, sources, checks of arrays, and batches."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, submodules=["datasets", "sources"])
