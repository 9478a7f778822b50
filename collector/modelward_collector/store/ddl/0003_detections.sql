-- What the rules found. The writer never inserts a detection_id twice.
CREATE TABLE modelward.detections_raw (
    {columns:detections_raw},
    INDEX by_id detection_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_detected_at detected_at TYPE minmax GRANULARITY 1,
    INDEX by_group group_key TYPE bloom_filter(0.01) GRANULARITY 1
) ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (time, host_name)
TTL toDateTime(time) + INTERVAL {days:detections_raw} DAY
SETTINGS {durable};
