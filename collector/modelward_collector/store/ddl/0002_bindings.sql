-- Which model an instance is. It comes later than the events of that instance, and may come again with more.
CREATE TABLE modelward.bindings (
    {columns:bindings}
) ENGINE = ReplacingMergeTree(time)
ORDER BY (host_name, model_instance)
TTL toDateTime(time) + INTERVAL {days:bindings} DAY
SETTINGS {durable};
