-- What operators say: labels and mode of hosts, exceptions, how far each output has read.
ALTER TABLE modelward.hosts_raw
    ADD COLUMN IF NOT EXISTS labels Array(String) AFTER kernel_release,
    ADD COLUMN IF NOT EXISTS mode LowCardinality(String) DEFAULT 'watching' AFTER connected,
    ADD COLUMN IF NOT EXISTS mode_reason String AFTER mode;

-- When the store inserted a detection: strictly increasing, so that an output that reads in this order misses none.
-- Detections of an older version were not stamped; the time of their judgement stands in for it.
ALTER TABLE modelward.detections_raw
    ADD COLUMN IF NOT EXISTS stored_at DateTime64(9, 'UTC') DEFAULT detected_at CODEC(Delta(8), ZSTD(1)),
    ADD INDEX IF NOT EXISTS by_stored_at stored_at TYPE minmax GRANULARITY 1,
    ADD INDEX IF NOT EXISTS by_host host_name TYPE set(100) GRANULARITY 1;

-- Exceptions stay as long as detections that they may have silenced.
CREATE TABLE modelward.exceptions_raw (
    id String,
    rule_name String,
    model_digest String,
    executable_path String,
    host_name String,
    reason String,
    author String,
    created DateTime64(9, 'UTC'),
    expires DateTime64(9, 'UTC'),
    revoked Bool,
    revoked_by String,
    changed DateTime64(9, 'UTC')
) ENGINE = ReplacingMergeTree(changed)
ORDER BY id
TTL toDateTime(expires) + INTERVAL {days:exceptions_raw} DAY
SETTINGS {durable};

CREATE TABLE modelward.outputs_raw (
    output String,
    stored_at DateTime64(9, 'UTC'),
    detection_id String,
    at DateTime64(9, 'UTC')
) ENGINE = ReplacingMergeTree(at)
ORDER BY output
SETTINGS {durable};
