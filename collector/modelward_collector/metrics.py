"""Metrics of all processes of the collector, in prometheus_client's multiprocess mode: the web process adds them up.

The supervisor sets ``PROMETHEUS_MULTIPROC_DIR`` before this is imported. No label takes a value that an agent can choose.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

BATCHES = Counter("modelward_received_batches", "Batches that arrived from agents, resends included.")
ROWS = Counter("modelward_received_rows", "Rows of those batches that could be read.")
BYTES = Counter("modelward_received_bytes", "Bytes of those batches as sent.")
REPEATED = Counter("modelward_repeated_batches", "Batches that were stored already when they came.")
JUDGED = Counter("modelward_judged_rows", "Rows that the rules judged.")
JUDGE_SECONDS = Histogram(
    "modelward_judge_seconds", "Seconds to check, classify and judge one batch.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5))
DETECTIONS = Counter("modelward_detections", "Detections, repeats included.", ["severity"])
QUARANTINED = Counter("modelward_quarantined_batches", "Batches that were set aside.")
SILENT_HOSTS = Gauge("modelward_silent_hosts", "Hosts without a word for too long.", multiprocess_mode="livemostrecent")
AGENTS = Gauge("modelward_connected_agents", "Open streams of agents.", multiprocess_mode="livesum")
CREDIT = Gauge(
    "modelward_credit_bytes", "Bytes that each agent may have in flight; 0 while the store is behind.",
    multiprocess_mode="livemostrecent")
IN_FLIGHT = Gauge(
    "modelward_in_flight_bytes", "Bytes of batches that arrived and are not answered yet.", multiprocess_mode="livesum")
BROKEN_RULES = Gauge("modelward_broken_rules", "Problems in rule files.", multiprocess_mode="livemax")
STORE_SECONDS = Histogram(
    "modelward_store_seconds", "Seconds to store one group of batches.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10))
STORE_GROUP_BATCHES = Histogram(
    "modelward_store_group_batches", "Batches stored by one insert.", buckets=(1, 2, 5, 10, 20, 50, 100, 500))
ANSWER_SECONDS = Histogram(
    "modelward_answer_seconds", "Seconds from a batch's arrival to its answer.",
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30))
STORE_BYTES = Gauge("modelward_store_bytes", "Bytes of the store on disk.", multiprocess_mode="livemostrecent")
FREE_BYTES = Gauge("modelward_free_bytes", "Free bytes on the disk of the store.", multiprocess_mode="livemostrecent")
DROPPED_DAYS = Counter("modelward_dropped_days", "Days of events dropped because the store was over its budget.")

OUTPUT_DELIVERED = Counter("modelward_output_delivered", "Detections that an output's receiver took.", ["output"])
OUTPUT_REDUCED = Counter(
    "modelward_output_reduced", "Of these, taken only without the texts that a workload wrote.", ["output"])
OUTPUT_SILENCED = Counter("modelward_output_silenced", "Detections left out because an exception covers them.", ["output"])
OUTPUT_SET_ASIDE = Counter("modelward_output_set_aside", "Detections that the receiver refused in every form.", ["output"])
OUTPUT_FAILED_TRIES = Counter("modelward_output_failed_tries", "Deliveries that the receiver did not take.", ["output"])
OUTPUT_FAILING = Gauge(
    "modelward_output_failing", "1 while an output's receiver takes nothing.", ["output"], multiprocess_mode="livemostrecent")
OUTPUT_LAG = Gauge(
    "modelward_output_lag_seconds", "Age, since it was stored, of the detection that is being delivered; 0: none waits.",
    ["output"], multiprocess_mode="livemostrecent")
