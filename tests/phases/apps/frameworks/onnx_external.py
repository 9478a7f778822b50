"""An ONNX graph whose weights lie in a file beside it."""

import numpy as np
import onnxruntime


def load(path):
    session = onnxruntime.InferenceSession(path)
    x = np.ones((1, 8), np.float32)
    return lambda: session.run(None, {"x": x})[0].argmax()
