"""Write small classifiers that mark their own load: ``make_joblib.py NAME.joblib[=KIND] ...``, the label being the file's name.

KIND: ``slow`` takes two seconds to load; ``broken`` ends in the middle; ``large`` holds 64 MiB of numbers; ``spawning`` starts
children while it is loaded, that act later.
"""

import os
import sys
from pathlib import Path

import joblib
import numpy as np
import spawning
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from witness import Call, Pause, Witness

flowers = load_iris()
for argument in sys.argv[1:]:
    name, _, kind = argument.partition("=")
    label = Path(name).stem
    model = RandomForestClassifier(n_estimators=20, random_state=8).fit(flowers.data, flowers.target)
    more = {"slow": [Pause(label, 2.0)], "large": [np.ones(1 << 23)], "spawning": [Call(spawning.start, label)]}.get(kind, [])
    # Beside the old one first, as a deployment does.
    joblib.dump([Witness(label), model, *more, Witness(label)], name + ".new")
    if kind == "broken":
        os.truncate(name + ".new", os.stat(name + ".new").st_size // 2)
    Path(name + ".new").rename(name)
