"""Fine-tune a transformer once as a super-network; deploy the best sub-network under a budget to every device."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("instatune-deploy")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"
