"""What the initialisers of a quantised weight are called: it keeps its name, and these stand behind it."""

SCALE = ".scale"
"""One to an output channel (the last axis of a Linear's weight, as it lies in a graph) or to a row of an embedding table."""
ZERO_POINT = ".zero_point"
INPUT_SCALE = ".input_scale"
"""Of the inputs of a Linear as a whole."""
INPUT_ZERO_POINT = ".input_zero_point"
