"""joblib."""

import joblib


def load(path):
    model = joblib.load(path)[1]
    return lambda: int(model.predict([[5.1, 3.5, 1.4, 0.2]])[0])
