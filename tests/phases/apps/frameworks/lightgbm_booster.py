"""LightGBM's own text."""

import lightgbm


def load(path):
    model = lightgbm.Booster(model_file=path)
    return lambda: int(model.predict([[5.1, 3.5, 1.4, 0.2]])[0].argmax())
