"""What a quantisation is calibrated on."""

from collections.abc import Mapping, Sequence

import numpy as np

Rows = Sequence[Mapping[str, np.ndarray]]
"""Calibration inputs, each at the graph's own shapes."""
