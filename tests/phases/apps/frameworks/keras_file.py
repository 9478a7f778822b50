"""A Keras model in one file: .keras or .h5."""

import keras
import numpy as np


def load(path):
    model = keras.models.load_model(path)
    x = np.ones((1, 8), np.float32)
    return lambda: int(model(x).numpy().argmax())
