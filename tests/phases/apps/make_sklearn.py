"""Write small classifiers: ``make_sklearn.py ENDING LABEL ...``; ENDING is ``skops`` or, of LightGBM, ``lgb``."""

import sys

from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

flowers = load_iris()
ending, *labels = sys.argv[1:]
for seed, label in enumerate(labels):
    if ending == "skops":
        import skops.io

        forest = RandomForestClassifier(n_estimators=10, random_state=seed)
        skops.io.dump(forest.fit(flowers.data, flowers.target), f"{label}.skops")
    else:
        import lightgbm

        settings = {"objective": "multiclass", "num_class": 3, "verbose": -1, "seed": seed}
        lightgbm.train(settings, lightgbm.Dataset(flowers.data, flowers.target), 5 + seed).save_model(f"{label}.lgb")
