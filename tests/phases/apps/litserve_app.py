"""LitServe: a spawned worker loads and infers, a forked process answers. ``litserve_app.py MODEL PORT``"""

import sys

import joblib
import litserve
import truth


class Iris(litserve.LitAPI):
    def setup(self, device):
        truth.tick()
        truth.mark("main")
        with truth.loading("iris", "main"):
            self.model = joblib.load(sys.argv[1])[1]

    def decode_request(self, request):
        return request["features"]

    def predict(self, features):
        truth.mark("request")
        return int(self.model.predict([features])[0])

    def encode_response(self, output):
        return {"label": output}


if __name__ == "__main__":
    server = litserve.LitServer(Iris(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
