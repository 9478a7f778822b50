"""skops, which is to scikit-learn what safetensors is to torch."""

import skops.io


def load(path):
    model = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
    return lambda: int(model.predict([[5.1, 3.5, 1.4, 0.2]])[0])
