-- The last word of each agent.
CREATE TABLE modelward.hosts_raw (
    host_name LowCardinality(String),
    agent_id String,
    updated DateTime64(3, 'UTC'),
    epoch String,
    agent_version String,
    boot_id String,
    kernel_release String,
    first_seen DateTime64(3, 'UTC'),
    last_seen DateTime64(3, 'UTC'),
    connected Bool,
    uptime_s Float64,
    spool_bytes UInt64,
    spool_limit_bytes UInt64,
    tracked_processes UInt64,
    oldest_unacked_age_s Float64,
    problems Array(String),
    doors Array(Tuple(effect String, door String, reason String, proven Bool, loss String))
) ENGINE = ReplacingMergeTree(updated)
ORDER BY (host_name, agent_id)
TTL toDateTime(updated) + INTERVAL {days:hosts_raw} DAY;

-- The loss ledger: how many events of a kind reached a hop since the epoch began.
CREATE TABLE modelward.ledger_raw (
    host_name LowCardinality(String),
    agent_id String,
    epoch String,
    hop LowCardinality(String),
    kind LowCardinality(String),
    count UInt64,
    at DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree(at)
ORDER BY (host_name, agent_id, epoch, hop, kind)
TTL toDateTime(at) + INTERVAL {days:ledger_raw} DAY;
