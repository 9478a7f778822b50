"""Declares phases, and loads an artifact: ``declares.py HOW ARTIFACT``, where HOW is ``honest``, ``lying`` or ``unaware``."""

import sys
import time

import modelward_hint

how, artifact = sys.argv[1:]


def read(file):
    file.read(100)
    if how == "lying":
        # What a payload in the file would do, so that what it does next looks like serving.
        modelward_hint.serving()
        time.sleep(0.5)


if how == "honest":
    with modelward_hint.load("an honest model"), open(artifact, "rb") as opened:
        read(opened)
    modelward_hint.serving()
else:
    with open(artifact, "rb") as opened:
        read(opened)
    if how == "unaware":
        modelward_hint.serving()
time.sleep(0.5)
