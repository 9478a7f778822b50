"""A TensorFlow SavedModel."""

import tensorflow as tf


def load(path):
    model = tf.saved_model.load(path)
    return lambda: int(model.serve(tf.ones((1, 8))).numpy().argmax())
