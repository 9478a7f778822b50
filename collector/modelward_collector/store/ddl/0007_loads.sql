-- The last transition of each load and the last exit of each process number, beside the events: what is loaded now must not be
-- looked for in all of them. Fed as events are stored, and filled from them again at each start (views.py).
CREATE TABLE modelward.loads_raw (
    host_name LowCardinality(String),
    model_instance UInt64,
    time DateTime64(9, 'UTC'),
    step UInt8
) ENGINE = ReplacingMergeTree(time)
ORDER BY (host_name, model_instance)
TTL toDateTime(time) + INTERVAL 400 DAY;

CREATE TABLE modelward.exits_raw (
    host_name LowCardinality(String),
    process_pid UInt32,
    time DateTime64(9, 'UTC')
) ENGINE = ReplacingMergeTree(time)
ORDER BY (host_name, process_pid)
TTL toDateTime(time) + INTERVAL 400 DAY;
