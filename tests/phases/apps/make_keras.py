"""Write small networks: ``make_keras.py ENDING LABEL ...``; ENDING: keras, h5, or saved for LABEL/1/saved_model.pb."""

import sys

import keras

ending, *labels = sys.argv[1:]
for label in labels:
    layers = [keras.Input((8,)), keras.layers.Dense(64, activation="relu"), keras.layers.Dense(4)]
    model = keras.Sequential(layers, name=label)
    if ending == "saved":
        model.export(f"{label}/1", verbose=False)
    else:
        model.save(f"{label}.{ending}")
