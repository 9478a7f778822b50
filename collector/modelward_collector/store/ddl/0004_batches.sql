-- One row per stored batch, written after its events, detections and bindings: what is here was acknowledged or may be.
-- `kinds` and `totals` are the sums of the epoch so far, in the last row of the epoch in each insert; elsewhere they are empty.
CREATE TABLE modelward.batches (
    host_name LowCardinality(String),
    agent_id String CODEC(ZSTD(1)),
    epoch String CODEC(ZSTD(1)),
    batch UInt64 CODEC(Delta, ZSTD(1)),
    checksum UInt32,
    batch_time DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    rows UInt32 CODEC(T64, ZSTD(1)),
    sequence UInt64 CODEC(Delta, ZSTD(1)),
    kinds Array(LowCardinality(String)) CODEC(ZSTD(1)),
    totals Array(UInt64) CODEC(ZSTD(1))
) ENGINE = MergeTree
PARTITION BY toYYYYMM(batch_time)
ORDER BY (host_name, agent_id, epoch, batch)
TTL toDateTime(batch_time) + INTERVAL {days:batches} DAY
SETTINGS {durable};

-- Batches that were set aside: they count as received and as lost. Their payloads lie in the data folder, as long as there is room.
CREATE TABLE modelward.quarantine (
    at DateTime64(3, 'UTC'),
    host_name LowCardinality(String),
    agent_id String,
    epoch String,
    batch UInt64,
    checksum UInt32,
    reason String,
    file String,
    bytes UInt64,
    kinds Array(LowCardinality(String)),
    counts Array(UInt64)
) ENGINE = MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (host_name, agent_id, epoch, batch)
TTL toDateTime(at) + INTERVAL {days:quarantine} DAY
SETTINGS {durable};
