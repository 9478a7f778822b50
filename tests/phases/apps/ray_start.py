"""A node of Ray with Serve on it: ``ray_start.py PORT WANTED``. Once the file WANTED is there, it deploys a second model."""

import os
import signal
import sys
import time

import ray
from ray import serve
from ray_app import Flower

stop = []
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80_000_000, _node_ip_address="127.0.0.1")
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
serve.run(Flower.bind("iris"), name="iris", route_prefix="/iris")
signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
while not stop:
    if os.path.exists(sys.argv[2]):
        os.unlink(sys.argv[2])
        serve.run(Flower.bind("roses"), name="roses", route_prefix="/roses")
    time.sleep(0.1)
serve.shutdown()
ray.shutdown()
