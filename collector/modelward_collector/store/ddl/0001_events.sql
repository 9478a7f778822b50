-- Events as they came, one row per record of an agent. The view `events` adds the model of each instance.
-- A batch lies in the partition of its own time, so that it is one part: all of it is stored, or nothing.
CREATE TABLE modelward.events_raw (
    {columns:events_raw},
    INDEX by_time time TYPE minmax GRANULARITY 1,
    INDEX by_instance model_instance TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_origin lifecycle_origin_instance TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_process process_entity_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_event_name event_name TYPE set(32) GRANULARITY 1
) ENGINE = MergeTree
PARTITION BY toDate(batch_time)
ORDER BY (host_name, time)
TTL toDateTime(batch_time) + INTERVAL {days:events_raw} DAY
SETTINGS {durable}, ttl_only_drop_parts = 1;
